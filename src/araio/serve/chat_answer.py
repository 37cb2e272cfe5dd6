"""`chat_choice`: one finished answer as a choice of a chat completion, and the logprobs of its tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from araio.engine.answer import Answer, TokenLogprob
from araio.serve.experts import routed_experts
from araio.serve.schema_chat import ChatRequest
from araio.serve.steps import Steps
from araio.text.tool_calls import ToolCall

__all__ = ["chat_choice", "logprobs_of"]


def chat_choice(
    index: int, flow: Steps, answer: Answer, body: ChatRequest, reasoning_field: str
) -> dict[str, Any]:
    """One of `choices`.

    reasoning_field  what the thinking is called
    """
    message: dict[str, Any] = {"role": "assistant", "content": answer.content, "refusal": None}
    if answer.tool_calls:
        message["content"] = answer.content or None
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    shows_reasoning = body.include_reasoning is not False
    if shows_reasoning and answer.reasoning:
        message[reasoning_field] = answer.reasoning
    choice = {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
    }
    if answer.logprobs is not None:
        choice["logprobs"] = logprobs_of(answer.logprobs, reasoning_field if shows_reasoning else None)
    if body.return_token_ids:
        choice["token_ids"] = flow.ids
    if body.return_routed_experts:
        choice["routed_experts"] = routed_experts(answer, body.routed_experts_prompt_start or 0)
    return choice


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def logprobs_of(tokens: Iterable[TokenLogprob], reasoning_field: str | None) -> dict[str, Any]:
    """Log-probabilities of tokens in OpenAI's shape.

    reasoning_field  where those of the thinking stand, apart from the answer's, as DeepSeek has it; None
                     leaves them out
    """
    document: dict[str, Any] = {"content": [], "refusal": None}
    if reasoning_field is not None:
        document[reasoning_field] = []
    for token in tokens:
        if not token.is_reasoning:
            document["content"].append(_token(token))
        elif reasoning_field is not None:
            document[reasoning_field].append(_token(token))
    return document


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(token.bytes),
        "top_logprobs": [
            {"token": text, "logprob": logprob, "bytes": list(text.encode())}
            for _, text, logprob in token.alternatives
        ],
    }
