"""Anthropic's Messages, asked by Anthropic's own client of a live server."""

import json
from collections.abc import Iterator

import anthropic
import httpx2 as httpx
import pytest
from anthropic.types import Message
from anthropic.types.shared import ErrorResponse

QUESTION = [{"role": "user", "content": "What is 47 + 38 - 12?"}]
SEEDED = {"extra_body": {"seed": 7}}
WARM = {"extra_body": {"seed": 7, "temperature": 1.0}}


@pytest.fixture(scope="module")
def claude(live) -> Iterator[anthropic.Anthropic]:
    """Anthropic's own client, which does not try again what fails."""
    with anthropic.Anthropic(base_url=live.url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def create(claude, **given):
    asked = {"model": "pocket", "max_tokens": 512, "messages": QUESTION, **SEEDED, **given}
    return claude.messages.create(**asked)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def test_an_answer_has_its_thinking_as_a_block(claude):
    message = create(claude)
    thinking, text = message.content
    assert (thinking.type, text.type) == ("thinking", "text")
    assert thinking.thinking
    assert thinking.signature
    assert text.text
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert 0 < message.usage.output_tokens_details.thinking_tokens < message.usage.output_tokens
    assert message.usage.araio["joules"] > 0


def test_the_same_question_has_the_same_answer_as_a_chat(claude, client):
    chat = client.chat.completions.create(model="pocket", messages=QUESTION, seed=7, temperature=1.0)
    message = create(claude, **WARM)
    assert text_of(message) == chat.choices[0].message.content
    assert message.content[0].thinking == chat.choices[0].message.reasoning_content


def test_a_stream_adds_up_to_the_same_answer(claude):
    whole = create(claude, **WARM)
    with claude.messages.stream(model="pocket", max_tokens=512, messages=QUESTION, **WARM) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == text_of(final) == text_of(whole)
    assert final.content[0] == whole.content[0]
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)


def test_a_prompt_is_what_was_read_and_what_was_cached(claude):
    system = "You are careful with numbers. " * 40
    uses = [create(claude, system=system).usage for _ in range(3)]
    prompts = {use.input_tokens + use.cache_read_input_tokens for use in uses}
    assert len(prompts) == 1
    # The first that drafts cannot use what one without drafts has left.
    assert any(use.cache_read_input_tokens > 0 for use in uses[1:])


def test_a_conversation_is_sent_back_as_it_came(claude):
    first = create(claude)
    turns = [
        *QUESTION,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": "Twice?"},
    ]
    assert text_of(create(claude, messages=turns))


def test_tokens_are_counted_as_they_are_used(claude):
    asked = {"system": "Be brief.", "messages": QUESTION}
    counted = claude.messages.count_tokens(model="pocket", **asked)
    usage = create(claude, **asked).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_an_answer_ends_where_it_was_told_to(claude):
    assert create(claude, max_tokens=3).stop_reason == "max_tokens"
    whole = create(claude).content[0].thinking
    message = create(claude, stop_sequences=[whole[5:8]])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", whole[5:8])


def test_thinking_can_be_left_out_and_hidden(claude):
    assert [block.type for block in create(claude, thinking={"type": "disabled"}).content] == ["text"]
    hidden = create(claude, thinking={"type": "adaptive", "display": "omitted"})
    assert hidden.content[0].thinking == ""
    assert text_of(hidden)


def test_thinking_has_a_budget(claude):
    message = create(claude, thinking={"type": "enabled", "budget_tokens": 5})
    assert message.usage.output_tokens_details.thinking_tokens < create(claude).usage.output_tokens
    assert text_of(message)


@pytest.mark.parametrize(
    "given",
    [
        {"messages": []},
        {"max_tokens": 0},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}
            ]
        },
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"thinking": {"type": "between_tools"}},
        {"stop_sequences": ["a"] * 5},
    ],
)
def test_what_cannot_be_served_is_refused_in_anthropics_words(claude, given):
    with pytest.raises(anthropic.BadRequestError) as refused:
        create(claude, **given)
    error = ErrorResponse.model_validate(refused.value.body)
    assert (error.type, error.error.type) == ("error", "invalid_request_error")


def test_what_is_not_there_is_not_found(claude, http):
    with pytest.raises(anthropic.NotFoundError) as refused:
        create(claude, model="other")
    assert refused.value.body["error"]["type"] == "not_found_error"
    assert http.post("/v1/messages/other", json={}).json()["type"] == "error"
    assert http.get("/v1/messages").json()["error"]["type"] == "invalid_request_error"


def test_a_stream_that_is_cancelled_ends_with_an_error(claude, http):
    # Its prompt alone takes seconds, so it is still running when it is told.
    long = [{"role": "user", "content": QUESTION[0]["content"] * 800}]
    events = iter(create(claude, messages=long, stream=True))
    message_id = next(events).message.id
    told = http.post("/v1/chat/completions/control", json={"id": message_id, "action": "cancel"})
    assert told.json()["done"]
    with pytest.raises(anthropic.APIStatusError, match="cancelled"):
        list(events)


def test_a_stream_is_made_of_events_that_say_their_type(http):
    asked = {"model": "pocket", "max_tokens": 64, "messages": QUESTION, "stream": True}
    answer = http.post("/v1/messages", json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    events = [event.split("\n") for event in answer.text.removesuffix("\n\n").split("\n\n")]
    kinds = [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: "))["type"])
        for name, data in events
    ]
    assert all(name == kind for name, kind in kinds)
    assert [kinds[0][0], kinds[1][0], kinds[-1][0]] == ["message_start", "ping", "message_stop"]


def test_what_the_guard_refuses_is_told_in_anthropics_words(start_live):
    server = start_live(body_bytes=1024)
    asked = {"model": "pocket", "max_tokens": 64, "messages": [{"role": "user", "content": "x" * 2000}]}
    refused = httpx.post(f"{server.url}/v1/messages", json=asked, timeout=60)
    assert (refused.status_code, refused.json()["error"]["type"]) == (413, "request_too_large")


def test_a_key_may_come_as_anthropic_sends_it(start_live):
    server = start_live(keys=("secret",))
    with anthropic.Anthropic(base_url=server.url, api_key="secret", max_retries=0) as client:
        assert create(client, max_tokens=3).stop_reason == "max_tokens"
    with anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            create(client)
        assert refused.value.body["error"]["type"] == "authentication_error"


def test_documents_are_what_the_types_say(http):
    asked = {"model": "pocket", "max_tokens": 64, "messages": QUESTION, "seed": 7}
    Message.model_validate(http.post("/v1/messages", json=asked).json(), strict=True)


ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}


# The bundled model has never seen tools, and thinks of them without end.
BRIEF = {"thinking": {"type": "disabled"}}


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "add"}])
def test_a_call_that_is_required_comes_and_fits_its_schema(claude, choice):
    choice = {**choice, "disable_parallel_tool_use": True}
    message = create(claude, tools=[ADD], tool_choice=choice, **BRIEF)
    *_, call = message.content
    assert (call.type, call.name, message.stop_reason) == ("tool_use", "add", "tool_use")
    assert call.input.keys() == {"a", "b"}


def test_a_streamed_call_adds_up_and_its_result_is_taken(claude):
    asked = {"model": "pocket", "max_tokens": 512, "messages": QUESTION, "tools": [ADD], **SEEDED, **BRIEF}
    choice = {"type": "any", "disable_parallel_tool_use": True}
    with claude.messages.stream(tool_choice=choice, **asked) as stream:
        final = stream.get_final_message()
    whole = create(claude, tools=[ADD], tool_choice=choice, **BRIEF)
    assert final.content[-1].input == whole.content[-1].input
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "85"}
        for block in final.content
        if block.type == "tool_use"
    ]
    turns = [*QUESTION, {"role": "assistant", "content": final.content}, {"role": "user", "content": results}]
    assert create(claude, messages=turns, tools=[ADD], max_tokens=9).stop_reason == "max_tokens"


def test_tools_count_among_the_tokens(claude):
    plain, told = (
        claude.messages.count_tokens(model="pocket", messages=QUESTION, **given).input_tokens
        for given in ({}, {"tools": [ADD]})
    )
    assert told > plain


def test_an_answer_is_continued(claude):
    turns = [*QUESTION, {"role": "assistant", "content": "The result is"}]
    assert text_of(create(claude, messages=turns, max_tokens=20))


def test_an_answer_follows_a_schema(claude):
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"],
              "additionalProperties": False}  # fmt: skip
    message = create(claude, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert isinstance(json.loads(text_of(message))["sum"], int)
