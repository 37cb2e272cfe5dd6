"""Chat completions, asked by OpenAI's own client."""

import base64
import io
import json

import numpy as np
import openai
import pytest

from araio.serve.schema_answers import ChatAnswer
from araio.traces import Phase, TraceHeader
from araio.traces.importers import import_trace

QUESTION = [{"role": "user", "content": "What is 47 + 38 - 12?"}]


def create(client, **given):
    return client.chat.completions.create(**{"model": "pocket", "messages": QUESTION, "seed": 7, **given})


def test_an_answer_has_its_thinking_apart(client):
    answer = create(client)
    message = answer.choices[0].message
    assert message.role == "assistant"
    assert message.content
    assert message.reasoning_content
    assert "<think>" not in message.content + message.reasoning_content
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    assert usage.prompt_tokens == usage.prompt_cache_hit_tokens + usage.prompt_cache_miss_tokens
    assert usage.araio["joules"] > 0


def test_a_stream_has_the_same_text_and_usage(client):
    whole = create(client, temperature=1.0)
    chunks = list(create(client, temperature=1.0, stream=True, stream_options={"include_usage": True}))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert (deltas[0].role, deltas[0].content) == ("assistant", "")
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    thinking = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert thinking == whole.choices[0].message.reasoning_content
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == "stop"
    assert (usage.choices, usage.usage.completion_tokens) == ([], whole.usage.completion_tokens)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def text_of(message):
    return getattr(message, "reasoning_content", None), message.content


def test_choices_are_drawn_with_seeds_that_follow_each_other(client):
    asked = {"temperature": 1.5, "max_tokens": 60}
    several = create(client, n=3, seed=11, **asked)
    alone = [create(client, seed=11 + choice, **asked) for choice in range(3)]
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert [text_of(choice.message) for choice in several.choices] == [
        text_of(answer.choices[0].message) for answer in alone
    ]
    assert several.usage.completion_tokens == sum(answer.usage.completion_tokens for answer in alone)
    assert several.usage.prompt_tokens == alone[0].usage.prompt_tokens


def test_log_probabilities_stand_apart_as_the_text_does(client):
    answer = create(client, logprobs=True, top_logprobs=3, extra_body={"return_token_ids": True})
    choice = answer.choices[0]
    thinking, tokens = choice.logprobs.reasoning_content, choice.logprobs.content
    assert len(thinking) == answer.usage.completion_tokens_details.reasoning_tokens
    assert len(thinking) + len(tokens) == answer.usage.completion_tokens == len(choice.token_ids)
    assert len(answer.prompt_token_ids) == answer.usage.prompt_tokens
    text = b"".join(bytes(token.bytes) for token in tokens).decode()
    assert text.removesuffix("<｜end▁of▁sentence｜>").strip() == choice.message.content.strip()
    for token in tokens:
        assert len(token.top_logprobs) == 3
        # It was chosen greedily.
        assert token.logprob == token.top_logprobs[0].logprob <= 0


def test_a_stream_tells_the_same_of_its_tokens(client):
    asked = {"logprobs": True, "top_logprobs": 1, "extra_body": {"return_token_ids": True}}
    whole = create(client, **asked).choices[0]
    choices = [chunk.choices[0] for chunk in create(client, stream=True, **asked)]
    ids = [token for choice in choices for token in getattr(choice, "token_ids", None) or []]
    told = [choice.logprobs for choice in choices if choice.logprobs is not None]
    assert ids == whole.token_ids
    assert [token for each in told for token in each.content] == whole.logprobs.content


def test_thinking_ends_at_its_budget(client):
    for extra in (
        {"thinking_token_budget": 3},
        {"reasoning_effort": "none"},
        {"chat_template_kwargs": {"thinking": False}},
    ):
        answer = create(client, extra_body=extra)
        free = create(client)
        limit = 3 if "thinking_token_budget" in extra else 0
        thought = answer.usage.completion_tokens_details.reasoning_tokens
        assert thought < free.usage.completion_tokens_details.reasoning_tokens
        assert thought <= limit + 8
        assert answer.choices[0].message.content


def test_thinking_may_be_kept_to_the_server(client):
    hidden = create(client, extra_body={"include_reasoning": False}).choices[0].message
    assert not hasattr(hidden, "reasoning_content")
    assert hidden.content == create(client).choices[0].message.content


def test_an_answer_stops_before_a_string_and_says_which(client):
    choice = create(client, stop=["never this", "</think>"]).choices[0]
    assert (choice.finish_reason, choice.stop_reason) == ("stop", "</think>")
    assert choice.message.content == ""


def test_a_limit_counts_thinking_and_answer_together(client):
    answer = create(client, max_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5


def test_an_answer_follows_a_schema(client):
    schema = {
        "type": "object",
        "properties": {"sum": {"type": "integer"}, "sure": {"type": "boolean"}},
        "required": ["sum", "sure"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema, "strict": True}}
    for given in ({"response_format": form}, {"response_format": form, "stream": True}):
        answer = create(client, max_tokens=400, **given)
        if "stream" in given:
            content = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        else:
            content = answer.choices[0].message.content
            assert answer.choices[0].message.reasoning_content
        found = json.loads(content)
        assert isinstance(found["sum"], int)
        assert isinstance(found["sure"], bool)


def test_a_schema_that_no_grammar_holds_is_refused_by_name(client):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, response_format=form)
    assert caught.value.param == "response_format"


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds two numbers.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        },
    }
]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_tool_that_must_be_called_is_called(client, choice):
    # This model thinks aloud for long when it reads of tools, which it was never taught.
    asked = {"tools": TOOLS, "tool_choice": choice, "max_tokens": 600, "parallel_tool_calls": False}
    asked["extra_body"] = {"thinking_token_budget": 32}
    answer = create(client, **asked).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    (call,) = answer.message.tool_calls
    assert (call.type, call.function.name) == ("function", "add")
    assert set(json.loads(call.function.arguments)) == {"a", "b"}
    deltas = [
        piece
        for chunk in create(client, stream=True, **asked)
        for piece in chunk.choices[0].delta.tool_calls or []
    ]
    assert (deltas[0].id[:5], deltas[0].function.name, deltas[0].index) == ("call_", "add", 0)
    assert "".join(piece.function.arguments for piece in deltas) == call.function.arguments


def test_a_conversation_may_hold_tools_and_thinking_under_either_name(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is 1 + 2?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "a sum"},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        {"role": "assistant", "content": "3", "reasoning_content": "it said so"},
        {"role": "user", "content": "And 3 + 4?"},
    ]
    answer = create(client, messages=messages, tools=TOOLS, max_tokens=300)
    assert answer.usage.completion_tokens > 0


def test_the_last_message_can_be_continued(client):
    messages = [*QUESTION, {"role": "assistant", "content": "The answer is"}]
    answer = create(
        client, messages=messages, max_tokens=8, extra_body={"continue_final_message": True, "seed": 1}
    )
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_every_token_is_told_with_its_experts(client, live):
    config = live.service.model.config
    chunks = list(create(client, stream=True, extra_body={"watch_experts": True}))
    tokens = [token for chunk in chunks for token in (getattr(chunk, "araio", None) or {}).get("tokens", [])]
    assert {token["phase"] for token in tokens} == {"reasoning", "answer"}
    for token in tokens:
        assert len(token["experts"]) == len(token["weights"]) == len(config.moe_layers)
        assert all(len(set(ids)) == config.num_experts_per_tok for ids in token["experts"])
    text = "".join(token["text"] for token in tokens)
    shown = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert shown in text


def test_experts_of_all_tokens_come_as_a_file(client, live):
    config = live.service.model.config
    answer = create(
        client, max_tokens=6, extra_body={"return_routed_experts": True, "return_token_ids": True}
    )
    choice = answer.choices[0]
    experts = np.load(io.BytesIO(base64.b64decode(choice.routed_experts)), allow_pickle=False)
    ids = [*answer.prompt_token_ids, *choice.token_ids]
    assert experts.dtype == np.uint8
    assert experts.shape == (len(ids) - 1, len(config.moe_layers), config.num_experts_per_tok)
    expected, _ = live.service.model.route(ids[:-1])
    assert np.array_equal(np.sort(experts), np.sort(expected))


def test_an_answer_with_experts_becomes_a_trace(client, live, tmp_path):
    model = live.service.model
    answer = create(
        client, max_tokens=6, extra_body={"return_routed_experts": True, "return_token_ids": True}
    )
    (tmp_path / "answer.json").write_text(answer.model_dump_json())
    trace = import_trace(tmp_path / "answer.json", header=TraceHeader.of(model.config))
    ids = [*answer.prompt_token_ids, *answer.choices[0].token_ids][:-1]
    assert trace.column("token_id").tolist() == ids
    assert (trace.column("phase") == Phase.PREFILL).sum() == len(answer.prompt_token_ids)
    expected, _ = model.route(ids)
    assert np.array_equal(np.sort(trace.experts), np.sort(expected))


def test_a_stream_may_carry_its_usage_all_along(client):
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(create(client, stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == counts[-2]


def test_a_stream_may_tell_how_far_its_prompt_has_come(client):
    messages = [{"role": "user", "content": "one two three " * 1500}]
    stream = create(
        client, messages=messages, max_tokens=2, stream=True, extra_body={"return_progress": True}
    )
    told = [chunk.prompt_progress for chunk in stream if hasattr(chunk, "prompt_progress")]
    processed = [each["processed"] for each in told]
    assert processed == sorted(set(processed))
    assert processed[-1] <= told[0]["total"]
    assert told[0]["total"] > 1500


def test_another_name_for_the_thinking(start_live):
    live = start_live(reasoning_field="reasoning")
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        message = create(client).choices[0].message
        assert message.reasoning
        assert not hasattr(message, "reasoning_content")


def test_an_answer_that_is_told_to_answer_now_does(client, live, http):
    stream = create(client, stream=True, max_tokens=4000, messages=LONG)
    deltas, done = [], None
    for chunk in stream:
        deltas.append(chunk.choices[0].delta)
        if done is None and getattr(deltas[-1], "reasoning_content", None):
            reply = http.post(
                "/v1/chat/completions/control", json={"id": chunk.id, "action": "reasoning_end"}
            )
            done = reply.json()
    assert done == {"id": chunk.id, "action": "reasoning_end", "done": True}
    assert any(delta.content for delta in deltas[1:])
    reply = http.post("/v1/chat/completions/control", json={"id": chunk.id, "action": "cancel"})
    assert reply.status_code == 404


LONG = [{"role": "user", "content": "What is 47 + 38 - 12 + 5 - 3 + 21 - 4 + 33 - 17 + 8?"}]


def test_an_answer_that_is_cancelled_ends_with_an_error(client, http):
    with pytest.raises(openai.APIError) as caught:  # noqa: PT012 - the stream is what fails
        for chunk in create(client, stream=True, messages=LONG, max_tokens=4000):
            http.post("/v1/chat/completions/control", json={"id": chunk.id, "action": "cancel"})
    assert "cancelled" in str(caught.value)


def test_answers_have_the_shape_that_the_document_promises(http):
    plain = {"messages": QUESTION, "logprobs": True, "top_logprobs": 1, "n": 2, "return_token_ids": True}
    called = {"tools": TOOLS, "tool_choice": "required", "thinking_token_budget": 8, "max_tokens": 300}
    for body in (plain, {"messages": QUESTION, **called}):
        reply = http.post("/v1/chat/completions", json=body)
        assert ChatAnswer.model_validate_json(reply.content).choices
