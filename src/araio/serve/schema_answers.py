"""The shapes of answers, for the OpenAPI document: what `chat_answer.py` and its like write by hand.

Answers are not built from these classes, that would be slow; the tests hold them against each other. A key
that is not listed may be there: the receipt has many.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ChatAnswer", "CompletionAnswer", "Usage"]


class Shape(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="allow")


class PromptDetails(Shape):
    """Parts of `prompt_tokens`."""

    cached_tokens: int


class CompletionDetails(Shape):
    """Parts of `completion_tokens`."""

    reasoning_tokens: int


class Usage(Shape):
    """Tokens, and under `araio` the receipt: operations, bytes, seconds, joules, grams, money."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
    prompt_cache_hit_tokens: int
    prompt_cache_miss_tokens: int
    araio: dict[str, Any] | None = None


class Alternative(Shape):
    """A token that might have been."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenInfo(Alternative):
    """A token with its alternatives, likeliest first."""

    top_logprobs: list[Alternative]


class Logprobs(Shape):
    """Of the answer's tokens; those of the thinking stand beside them, under its field."""

    content: list[TokenInfo] | None
    refusal: None = None


class CalledFunction(Shape):
    """The function and its arguments, as JSON text."""

    name: str
    arguments: str


class ToolCall(Shape):
    """A call that the model asks for; nothing is ever called by the server."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(Shape):
    """The answer, with its thinking under `reasoning_content`, or `reasoning` where that was chosen."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: None = None


class ChatChoice(Shape):
    """One of the answers."""

    index: int
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    routed_experts: str | None = Field(None, description="base64 of a .npy: (tokens - 1, MoE layers, K)")


class ChatAnswer(Shape):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionLogprobs(Shape):
    """Four lists, an entry for each token; the first of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Shape):
    """One continuation."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    routed_experts: str | None = None


class CompletionAnswer(Shape):
    """Continued text."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage
