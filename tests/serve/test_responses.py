"""OpenAI's Responses, asked by OpenAI's own client of a live server."""

import json

import openai
import pytest
from openai.types.responses import Response

QUESTION = "What is 47 + 38 - 12?"
SEEDED = {"extra_body": {"seed": 7}}


def create(client, **given):
    return client.responses.create(**{"model": "pocket", "input": QUESTION, **SEEDED, **given})


def test_an_answer_has_its_thinking_as_an_item(client):
    response = create(client)
    reasoning, message = response.output
    assert (reasoning.type, message.type, response.status) == ("reasoning", "message", "completed")
    assert response.output_text == message.content[0].text != ""
    assert reasoning.content[0].text
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert 0 < usage.output_tokens_details.reasoning_tokens < usage.output_tokens
    assert usage.araio["joules"] > 0


def test_the_same_question_has_the_same_answer_as_a_chat(client):
    chat = client.chat.completions.create(
        model="pocket", messages=[{"role": "user", "content": QUESTION}], seed=7, temperature=1.0
    )
    response = create(client, temperature=1.0)
    message = chat.choices[0].message
    assert response.output_text == message.content
    assert response.output[0].content[0].text == message.reasoning_content


def test_a_stream_adds_up_to_the_same_answer(client):
    whole = create(client, temperature=1.0)
    with client.responses.stream(model="pocket", input=QUESTION, temperature=1.0, **SEEDED) as stream:
        events = list(stream)
        final = stream.get_final_response()
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == final.output_text == whole.output_text
    assert final.output[0].content == whole.output[0].content
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[0].response.id == final.id


def test_a_conversation_is_sent_back_as_it_came(client):
    first = create(client)
    items = [
        {"role": "user", "content": QUESTION},
        *first.output,
        {"role": "user", "content": "And twice that?"},
    ]
    second = create(client, input=items)
    assert second.status == "completed"
    assert second.usage.input_tokens > first.usage.input_tokens


def test_instructions_and_formats_reach_the_model(client):
    plain, told = create(client), create(client, instructions="Answer in one word.")
    assert told.usage.input_tokens > plain.usage.input_tokens
    assert told.instructions == "Answer in one word."


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_that_is_cut_says_so(client, is_stream):
    response = create(client, max_output_tokens=3, stream=is_stream)
    if is_stream:
        *_, last = response
        assert last.type == "response.incomplete"
        response = last.response
    assert (response.status, response.usage.output_tokens) == ("incomplete", 3)
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[-1].status == "incomplete"


def test_no_effort_is_no_thinking(client):
    response = create(client, reasoning={"effort": "none"})
    assert response.output_text
    assert [item.type for item in response.output] == ["message"]


def test_logprobs_are_those_of_the_text(client):
    response = create(client, include=["message.output_text.logprobs"], top_logprobs=3)
    text = response.output[-1].content[0]
    assert all(len(token.top_logprobs) == 3 for token in text.logprobs)
    assert text.text in "".join(token.token for token in text.logprobs)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"input": []}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "call_id": "1", "name": "f"}]}, "input[0].arguments"),
        ({"truncation": "auto"}, "truncation"),
        ({"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": "x"}]}, "input[1]"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(client, given, param):
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, **given)
    assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError):
        create(client, model="other")


def test_a_stream_that_is_cancelled_ends_with_a_failure(client, http):
    # Its prompt alone takes seconds, so it is still running when it is told.
    with client.responses.stream(model="pocket", input=QUESTION * 800) as stream:
        first = next(iter(stream))
        told = http.post("/v1/chat/completions/control", json={"id": first.response.id, "action": "cancel"})
        *_, last = stream
    assert told.json()["done"]
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert "cancelled" in last.response.error.message


def test_a_stream_is_made_of_events_that_say_their_type(http):
    answer = http.post("/v1/responses", json={"input": QUESTION, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [event.split("\n") for event in answer.text.removesuffix("\n\n").split("\n\n")]
    kinds = [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: "))["type"])
        for name, data in events
    ]
    assert all(name == kind for name, kind in kinds)
    assert [kinds[0][0], kinds[-1][0]] == ["response.created", "response.completed"]


def test_documents_are_what_the_types_say(http):
    document = http.post("/v1/responses", json={"input": QUESTION, "seed": 7}).json()
    Response.model_validate(document, strict=True)


ADD = {
    "type": "function",
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "strict": True,
}


# The bundled model has never seen tools, and thinks of them without end.
BRIEF = {"reasoning": {"effort": "none"}}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "add"}])
def test_a_call_that_is_required_comes_and_fits_its_schema(client, choice):
    response = create(client, tools=[ADD], tool_choice=choice, parallel_tool_calls=False, **BRIEF)
    *_, call = response.output
    assert (call.type, call.name, call.status) == ("function_call", "add", "completed")
    assert json.loads(call.arguments).keys() == {"a", "b"}


def test_a_streamed_call_adds_up_and_its_output_is_taken(client):
    asked = {"model": "pocket", "tools": [ADD], "tool_choice": "required", **SEEDED, **BRIEF}
    asked["parallel_tool_calls"] = False
    with client.responses.stream(input=QUESTION, **asked) as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        final = stream.get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    assert "".join(pieces) == "".join(call.arguments for call in calls)
    outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "85"} for call in calls]
    items = [{"role": "user", "content": QUESTION}, *final.output, *outputs]
    assert create(client, input=items, tools=[ADD], max_output_tokens=9).status == "incomplete"


def test_an_answer_follows_a_schema(client):
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"],
              "additionalProperties": False}  # fmt: skip
    response = create(client, text={"format": {"type": "json_schema", "name": "sum", "schema": schema}})
    assert isinstance(json.loads(response.output_text)["sum"], int)


def test_a_schema_that_cannot_be_followed_is_refused(client):
    wanted = {"type": "json_schema", "name": "x", "schema": {"type": "nothing"}}
    with pytest.raises(openai.BadRequestError):
        create(client, text={"format": wanted})
