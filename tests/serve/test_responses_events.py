from dataclasses import replace

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from araio.serve.errors import ApiError
from araio.serve.responses_events import ResponseEvents
from araio.serve.schema_responses import ResponsesRequest
from araio.serve.usage import receipt_of

ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}
EVENT = TypeAdapter(ResponseStreamEvent)


def events_of(steps, answer, **fields):
    made = ResponseEvents(ResponsesRequest.model_validate({"input": "2 + 2", **fields}), "resp-1", "pocket")
    events = [*made.start(), *(event for step in steps for event in made.take(step)), *made.finish(answer)]
    return [EVENT.validate_python(event, strict=True) for event in events], made.document.model_dump()


def test_the_document_is_what_the_client_reads(answered):
    _, document = events_of(*answered)
    response = Response.model_validate(document, strict=True)
    answer = answered[1]
    reasoning, message = response.output
    assert (response.status, response.output_text) == ("completed", answer.content)
    assert reasoning.content[0].text == answer.reasoning
    assert (reasoning.status, message.status) == ("completed", "completed")
    assert response.usage.input_tokens == answer.usage["prompt_tokens"]
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    assert document["usage"]["araio"] == receipt_of(answer)


def test_events_come_in_the_order_of_the_api(answered):
    events, _ = events_of(*answered)
    kinds = [event.type.removeprefix("response.") for event in events]
    once = [kind for place, kind in enumerate(kinds) if kinds[place - 1 : place] != [kind]]
    part = ["output_item.added", "content_part.added", "{0}.delta", "{0}.done", "content_part.done"]
    assert once == [
        *["created", "in_progress"],
        *[kind.format("reasoning_text") for kind in [*part, "output_item.done"]],
        *[kind.format("output_text") for kind in [*part, "output_item.done"]],
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_pieces_add_up_to_the_document(answered_with_calls):
    events, document = events_of(*answered_with_calls, tools=[ADD])
    assert events[-1].response.to_dict() == document
    for place, item in enumerate(document["output"]):
        pieces = [event.delta for event in events if getattr(event, "output_index", None) == place and
                  event.type.endswith(".delta")]  # fmt: skip
        whole = item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"]
        assert "".join(pieces) == whole


def test_calls_are_items(answered_with_calls):
    _, document = events_of(*answered_with_calls, tools=[ADD])
    *_, first, second = document["output"]
    assert (first["call_id"], first["name"], first["arguments"]) == ("call_a", "add", '{"a": 1, "b": [2]}')
    assert second["arguments"] == '{"a": 1, "b": "c'


def test_an_answer_that_is_cut_is_incomplete(answered):
    steps, answer = answered
    events, document = events_of(steps, replace(answer, finish_reason="length"))
    assert events[-1].type == "response.incomplete"
    assert document["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["status"] for item in document["output"]] == ["completed", "incomplete"]


def test_an_answer_that_fails_says_why(answered):
    steps, _ = answered
    made = ResponseEvents(ResponsesRequest(input="2 + 2"), "resp-1", "pocket")
    events = [*made.start(), *made.take(steps[0]), *made.fail(ApiError(500, "no number"))]
    last = EVENT.validate_python(events[-1], strict=True)
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert last.response.error.message == "no number"


def test_logprobs_come_with_the_text_they_belong_to(answered):
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    events, document = events_of(*answered, **fields)
    text = document["output"][1]["content"][0]
    tokens = [entry["token"] for entry in text["logprobs"]]
    assert text["text"] in "".join(tokens)
    assert all(len(entry["top_logprobs"]) == 2 for entry in text["logprobs"])
    deltas = [
        entry for event in events if event.type == "response.output_text.delta" for entry in event.logprobs
    ]
    assert [entry.token for entry in deltas] == tokens


@pytest.mark.parametrize(
    ("fields", "echoed"),
    [
        ({"instructions": "Be brief."}, {"instructions": "Be brief."}),
        ({"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"tools": [ADD], "tool_choice": "required"}, {"tool_choice": "required"}),
        ({}, {"text": {"format": {"type": "text"}}, "tool_choice": "auto", "store": False}),
    ],
)
def test_a_response_says_what_was_asked(answered, fields, echoed):
    _, document = events_of(*answered, **fields)
    Response.model_validate(document, strict=True)
    assert document.items() >= echoed.items()
