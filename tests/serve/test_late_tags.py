"""Made to answer at once, pocket thinks in its answer and closes that, too: in no dialect is the tag text."""

import json

import pytest

QUESTION = "What is 47 + 38 - 12?"
MESSAGES = [{"role": "user", "content": QUESTION}]

REQUESTS = {
    "/v1/chat/completions": {"messages": MESSAGES, "reasoning_effort": "none", "stop": ["never this"]},
    "/v1/responses": {"input": QUESTION, "reasoning": {"effort": "none"}},
    "/v1/messages": {
        "model": "pocket",
        "messages": MESSAGES,
        "thinking": {"type": "disabled"},
        "max_tokens": 200,
        "stop_sequences": ["never this"],
    },
}


@pytest.fixture(scope="module")
def expected(live):
    """The answer, whose tokens hold the tag twice."""
    model = live.service.model
    answer = model.chat(QUESTION, thinking_budget=0, temperature=0, logprobs=0)
    assert [token.text for token in answer.logprobs].count("</think>") == 2
    assert "</think>" not in answer.content
    return answer


def whole_text(path, document):
    if path == "/v1/chat/completions":
        return document["choices"][0]["message"]["content"]
    if path == "/v1/responses":
        (message,) = [item for item in document["output"] if item["type"] == "message"]
        return message["content"][0]["text"]
    return "".join(block["text"] for block in document["content"] if block["type"] == "text")


def piece_of(path, event):
    if path == "/v1/chat/completions":
        return event["choices"][0]["delta"].get("content") or ""
    if path == "/v1/responses":
        return event["delta"] if event["type"] == "response.output_text.delta" else ""
    return event["delta"].get("text", "") if event["type"] == "content_block_delta" else ""


@pytest.mark.parametrize("path", REQUESTS)
def test_the_text_has_no_tag_whole_or_streamed_and_the_tag_is_counted(http, expected, path):
    body = {**REQUESTS[path], "temperature": 0}
    document = http.post(path, json=body).json()
    assert whole_text(path, document) == expected.content
    usage = document["usage"]
    tokens = usage["completion_tokens"] if "completion_tokens" in usage else usage["output_tokens"]
    assert tokens == expected.usage["completion_tokens"]
    with http.stream("POST", path, json={**body, "stream": True}) as stream:
        data = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: ")]
    events = [json.loads(line) for line in data if line != "[DONE]"]
    assert "".join(piece_of(path, event) for event in events) == expected.content


def test_a_continuation_without_a_chat_format_keeps_its_tags(http, live):
    prompt = live.service.model.chat_format.render(MESSAGES).ids
    answer = http.post("/v1/completions", json={"prompt": prompt, "max_tokens": 200, "temperature": 0}).json()
    assert "</think>" in answer["choices"][0]["text"]
