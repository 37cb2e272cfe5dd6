"""What `POST /v1/messages` and its `count_tokens` give: the message as one document, and its blocks.

Field names and their values are Anthropic's. `messages_events.py` fills it, as it comes or at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field

__all__ = [
    "ContentBlock",
    "MessageDocument",
    "MessageUsage",
    "OutputTokensDetails",
    "StopReason",
    "TextBlock",
    "ThinkingBlock",
    "TokenCount",
    "ToolUseBlock",
]

StopReason: TypeAlias = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class ThinkingBlock(BaseModel):
    """The thinking before an answer.

    signature  a digest of the thinking; clients ask for one, nothing is checked by it
    """

    type: Literal["thinking"] = "thinking"
    thinking: str = ""
    signature: str = ""


class TextBlock(BaseModel):
    """A piece of the answer."""

    type: Literal["text"] = "text"
    text: str = ""
    citations: None = None


class ToolUseBlock(BaseModel):
    """A call that the model asks for."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any] = Field(default_factory=dict)


ContentBlock: TypeAlias = Annotated[ThinkingBlock | TextBlock | ToolUseBlock, Field(discriminator="type")]


class OutputTokensDetails(BaseModel):
    """Parts of `output_tokens`."""

    thinking_tokens: int


class MessageUsage(BaseModel):
    """Tokens of a message; `araio` has its receipt once it is finished.

    A prompt has `input_tokens + cache_read_input_tokens`. What is kept for later is not counted apart.
    """

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails | None = None
    araio: dict[str, Any] | None = None


class MessageDocument(BaseModel):
    """An answer."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[ContentBlock] = Field(default_factory=list)
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: MessageUsage


class TokenCount(BaseModel):
    """Tokens of a prompt."""

    input_tokens: int
