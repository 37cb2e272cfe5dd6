from dataclasses import replace

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from araio.serve.errors import ApiError
from araio.serve.messages_events import MessageEvents
from araio.serve.schema_messages import MessagesRequest
from araio.serve.usage import receipt_of

BASE = {"model": "pocket", "max_tokens": 64, "messages": [{"role": "user", "content": "2 + 2"}]}
EVENT = TypeAdapter(RawMessageStreamEvent)


def made_of(answer, **fields):
    request = MessagesRequest.model_validate({**BASE, **fields})
    return MessageEvents(request, "msg-1", "pocket", answer.usage["prompt_tokens"])


def events_of(steps, answer, **fields):
    made = made_of(answer, **fields)
    events = [*made.start(), *(event for step in steps for event in made.take(step)), *made.finish(answer)]
    return events, made.document.model_dump()


def parsed(events):
    return [EVENT.validate_python(event, strict=True) for event in events if event["type"] != "ping"]


def test_the_document_is_what_the_client_reads(answered):
    _, document = events_of(*answered)
    message = Message.model_validate(document, strict=True)
    answer = answered[1]
    thinking, text = message.content
    assert (thinking.thinking, text.text) == (answer.reasoning, answer.content)
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == answer.usage["prompt_tokens"]
    assert 0 < usage.output_tokens_details.thinking_tokens < usage.output_tokens
    assert document["usage"]["araio"] == receipt_of(answer)


def test_events_come_in_the_order_of_the_api(answered):
    events, _ = events_of(*answered)
    kinds = [event.get("delta", {}).get("type", event["type"]) for event in events]
    once = [kind for place, kind in enumerate(kinds) if kinds[place - 1 : place] != [kind]]
    assert once == [
        *["message_start", "ping"],
        *["content_block_start", "thinking_delta", "signature_delta", "content_block_stop"],
        *["content_block_start", "text_delta", "content_block_stop"],
        *["message_delta", "message_stop"],
    ]


def test_the_clients_own_accumulation_gives_the_document(answered_with_calls):
    events, document = events_of(*answered_with_calls)
    message, buffers = None, {}
    for event in parsed(events):
        message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)
    found, wanted = message.to_dict(), Message.model_validate(document).to_dict()
    # The client leaves what it has no field for as it was at the start.
    del wanted["usage"]["araio"], found["usage"]["araio"], found["stop_details"]
    assert found == wanted


def test_calls_are_blocks_and_one_that_is_cut_keeps_what_it_has(answered_with_calls):
    _, document = events_of(*answered_with_calls)
    *_, first, second = document["content"]
    assert first == {"type": "tool_use", "id": "call_a", "name": "add", "input": {"a": 1, "b": [2]}}
    assert second["input"] == {"a": 1}
    assert document["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"finish_reason": "length"}, ("max_tokens", None)),
        ({"finish_reason": "tool_calls"}, ("tool_use", None)),
        ({"stop_reason": "\n\n"}, ("stop_sequence", "\n\n")),
        ({}, ("end_turn", None)),
    ],
)
def test_every_end_has_its_name(answered, change, told):
    steps, answer = answered
    events, document = events_of(steps, replace(answer, **change))
    delta = parsed(events)[-2].delta
    assert (delta.stop_reason, delta.stop_sequence) == told
    assert (document["stop_reason"], document["stop_sequence"]) == told


def test_hidden_thinking_leaves_a_signature(answered):
    events, document = events_of(*answered, thinking={"type": "adaptive", "display": "omitted"})
    thinking = document["content"][0]
    assert thinking["thinking"] == ""
    assert thinking["signature"]
    assert not [event for event in events if event.get("delta", {}).get("type") == "thinking_delta"]


def test_an_answer_that_fails_says_so_in_anthropics_words(answered):
    (event,) = made_of(answered[1]).fail(ApiError(503, "about to end"))
    assert (event["type"], event["error"]["type"]) == ("error", "overloaded_error")
    assert event["error"]["message"] == "about to end"
