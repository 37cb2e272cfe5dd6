"""`chat_answer`: one finished answer as a choice of a chat completion, and the logprobs of its tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from araio.engine.answer import Answer, TokenLogprob
from araio.engine.generation import Generation
from araio.serve.schema_chat import ChatRequest
from araio.serve.settings import Settings

__all__ = ["chat_answer", "logprobs_of"]


def chat_answer(
    index: int, generation: Generation, answer: Answer, body: ChatRequest, settings: Settings
) -> dict[str, Any]:
    """One of `choices`."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.content, "refusal": None}
    if body.include_reasoning is not False and answer.reasoning:
        message[settings.reasoning_field] = answer.reasoning
    return {
        "index": index,
        "message": message,
        "logprobs": None if answer.logprobs is None else logprobs_of([], answer.logprobs, settings),
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
    }


def logprobs_of(
    reasoning: Iterable[TokenLogprob], content: Iterable[TokenLogprob], settings: Settings
) -> dict[str, Any]:
    """Log-probabilities of tokens, those of the thinking apart from those of the answer, as DeepSeek does."""
    return {
        "content": [token_logprob(token) for token in content],
        settings.reasoning_field: [token_logprob(token) for token in reasoning],
        "refusal": None,
    }


def token_logprob(token: TokenLogprob) -> dict[str, Any]:
    """One token in OpenAI's shape."""
    return {
        **entry(token.text, token.logprob),
        "top_logprobs": [entry(text, logprob) for _, text, logprob in token.alternatives],
    }


def entry(text: str, logprob: float) -> dict[str, Any]:
    """A token with its bytes."""
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
