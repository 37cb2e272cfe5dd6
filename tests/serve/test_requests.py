"""Requests that cannot be meant: each gets a 400 that names the field, and none more than that."""

import json
import math

import pytest

from araio.serve import schema
from araio.serve.schema_chat import ChatRequest
from araio.serve.settings import Settings

QUESTION = [{"role": "user", "content": "What is 2 + 3?"}]
TOOLS = [{"type": "function", "function": {"name": "add"}}]

NUMBERS = {
    "max_tokens": (1, None, int),
    "max_completion_tokens": (1, None, int),
    "temperature": (0, 100, float),
    "top_p": (0.001, 1, float),
    "top_k": (-1, None, int),
    "min_p": (0, 1, float),
    "seed": (0, 2**64 - 1, int),
    "n": (1, 8, int),
    "presence_penalty": (-2, 2, float),
    "frequency_penalty": (-2, 2, float),
    "repetition_penalty": (0.01, 10, float),
    "top_logprobs": (0, 20, int),
    "thinking_token_budget": (0, None, int),
}


def post(http, path="/v1/chat/completions", **body):
    given = {"prompt": "2 + 3 =", "max_tokens": 2} if path == "/v1/completions" else {"messages": QUESTION}
    # Python's own encoder writes NaN and infinities, as a careless client would.
    content = json.dumps({**given, **body})
    return http.post(path, content=content, headers={"Content-Type": "application/json"})


def error_of(reply, status=400):
    assert reply.status_code == status, reply.text
    document = reply.json()
    assert list(document) == ["error"]
    assert {"message", "type", "param", "code"} <= set(document["error"])
    return document["error"]


def outside(low, high, kind):
    beyond = 2**63 if high is None else high * 2 + 1
    values = [low - 1, -(2**63), 2**200, 10**400, True, "1", [1], {}, beyond]
    return values if kind is float else [*values, 0.5]


@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_out_of_its_range_is_refused_by_name(http, field):
    extra = {"logprobs": True} if field == "top_logprobs" else {}
    for value in outside(*NUMBERS[field]):
        error = error_of(post(http, **{field: value, **extra}))
        assert error["param"] in (field, None), value
        # What is no JSON number at all has no field yet.
        assert error["param"] == field or error["code"] == "invalid_json", value
    for value in (math.nan, math.inf, -math.inf):
        assert error_of(post(http, **{field: value, **extra}))["code"] == "invalid_json"


@pytest.mark.parametrize("field", ["max_tokens", "logprobs", "n", "best_of", "temperature", "seed"])
def test_a_completions_number_out_of_its_range_is_refused_by_name(http, field):
    for value in (-1, 2**64, True, "1", 0.5 if field != "temperature" else -0.5):
        assert error_of(post(http, "/v1/completions", **{field: value}))["param"] == field


@pytest.mark.parametrize("field", NUMBERS)
def test_both_ends_of_a_range_are_served(http, field):
    low, high, _ = NUMBERS[field]
    for value in (low, high):
        if value is not None:
            extra = {"logprobs": True} if field == "top_logprobs" else {}
            reply = post(http, **{"max_tokens": 2, field: value, **extra})
            assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": QUESTION * 4097}, "messages"),
        ({"messages": [{"role": "oracle", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"stop": ""}, "stop"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"logit_bias": {"abc": 1}}, "logit_bias"),
        ({"logit_bias": {"5": "much"}}, "logit_bias"),
        ({"logit_bias": [5]}, "logit_bias"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop[1]"),
        ({"logit_bias": {str(token): 1 for token in range(301)}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tokens": 131_073}, "max_tokens"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"thinking": "no"}}, "chat_template_kwargs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "tools": TOOLS}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "always", "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "no"}}, "tools": TOOLS}, "tool_choice"),
        ({"tools": TOOLS * 2}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "tools"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 0}}, "stream_options.include_usage"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["audio"]}, "modalities"),
    ],
)
def test_a_field_that_cannot_be_meant_is_named(http, body, param):
    assert error_of(post(http, **body))["param"] == param


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": []}, "messages is []; expected a list of at least 1"),
        ({"n": 0}, "n is 0; expected 1 or more"),
        ({"n": "a"}, "n is 'a'; expected an integer"),
        ({"top_p": 0}, "top_p is 0; expected more than 0"),
        ({"stream": "yes"}, "stream is 'yes'; expected true or false"),
        ({"stop": ""}, "stop is ''; expected text of 1 or more characters"),
        ({"messages": [3]}, "messages[0] is 3; expected an object"),
        ({"response_format": {"type": "xml"}}, "response_format.type is 'xml'; expected 'text', "),
        ({"logit_bias": {"abc": 1}}, "logit_bias has the key 'abc'; expected text that matches ^[0-9]"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(http, body, message):
    found = error_of(post(http, **body))["message"]
    assert found.startswith(message)


def test_what_is_wrong_is_said_in_few_words(http):
    for body in ({"n": "x" * 10_000}, {"logit_bias": {"x" * 10_000: 1}}, {"stop": [["x" * 1000] * 1000]}):
        assert len(error_of(post(http, **body))["message"]) < 500


def test_a_conversation_of_very_many_messages_is_counted_and_not_read(http):
    # The last of them would be refused for its role, had anybody looked at it.
    for path, name in (("/v1/chat/completions", "messages"), ("/v1/messages", "messages")):
        error = error_of_any(post(http, path, **{name: [*QUESTION * 30_000, {"role": "oracle"}]}))
        assert error["param"] == name
        assert error["message"] == "messages comes to 30001; this server's limit messages is 4096"
    error = error_of_any(post(http, "/v1/responses", input=[*QUESTION * 30_000, 5]))
    assert error["param"] == "input"


def error_of_any(reply):
    assert reply.status_code == 400
    return reply.json()["error"]


def test_a_field_that_nobody_knows_is_ignored(http):
    assert post(http, max_tokens=2, store=False, metadata={"a": "b"}, service_tier="auto").status_code == 200


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"nul", b"\xff", b"[" * 100_000, b'{"messages": ' + b"9" * 5000 + b"}"]
)
def test_a_body_that_is_no_json_object_is_refused(http, content):
    error_of(http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}))


def test_a_form_is_no_json(http):
    error = error_of(http.post("/v1/chat/completions", data={"messages": "hi"}), 415)
    assert "application/json" in error["message"]


def test_a_conversation_that_does_not_fit_says_how_long_it_is(http):
    error = error_of(post(http, messages=[{"role": "user", "content": "word " * 140_000}]))
    assert error["type"] == "exceed_context_size_error"
    assert error["n_prompt_tokens"] > error["n_ctx"] == 131_072


def test_another_model_is_not_found(http):
    error = error_of(post(http, model="gpt-4"), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "'pocket'" in error["message"]


def test_paths_and_methods_that_are_none_have_the_same_shape(http):
    assert error_of(http.get("/v1/nothing"), 404)["type"] == "not_found_error"
    reply = http.put("/v1/chat/completions")
    assert error_of(reply, 405)["message"] == "/v1/chat/completions does not take PUT"
    assert reply.headers["allow"] == "POST"


def test_names_that_somebody_makes_up_do_not_fill_the_log(monkeypatch, caplog):
    monkeypatch.setattr(schema, "_noted", set())
    caplog.set_level("INFO", "araio.serve")
    for number in range(300):
        messages = [{"role": "user", "content": "hi"}]
        ChatRequest.model_validate({"messages": messages, f"made_up_{number}": 1}).check(Settings(), 64)
    assert len(caplog.records) == 256
    assert "made_up_0" in caplog.text
