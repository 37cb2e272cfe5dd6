"""Chat completions, asked by OpenAI's own client."""

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
