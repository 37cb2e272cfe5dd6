"""What `POST /v1/responses` gives: the response as one document, and the items of its output.

Field names and their values are OpenAI's; what a client may count on is always there, null if there is
nothing to say. `responses_events.py` fills it, as it comes or at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field

__all__ = [
    "FunctionCallItem",
    "IncompleteDetails",
    "InputTokensDetails",
    "MessageItem",
    "OutputItem",
    "OutputText",
    "OutputTokensDetails",
    "ReasoningItem",
    "ReasoningText",
    "ResponseDocument",
    "ResponseError",
    "ResponseUsage",
    "Status",
]

Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class OutputText(BaseModel):
    """The text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[dict[str, Any]] = Field(default_factory=list)
    logprobs: list[dict[str, Any]] = Field(default_factory=list)


class MessageItem(BaseModel):
    """A piece of the answer."""

    type: Literal["message"] = "message"
    id: str
    status: Status = "in_progress"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = Field(default_factory=list)


class ReasoningText(BaseModel):
    """The text of the reasoning."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str = ""


class ReasoningItem(BaseModel):
    """The reasoning before an answer, whole; so there is no summary of it."""

    type: Literal["reasoning"] = "reasoning"
    id: str
    status: Status = "in_progress"
    summary: list[dict[str, Any]] = Field(default_factory=list)
    content: list[ReasoningText] = Field(default_factory=list)
    encrypted_content: None = None


class FunctionCallItem(BaseModel):
    """A call that the model asks for."""

    type: Literal["function_call"] = "function_call"
    id: str
    status: Status = "in_progress"
    call_id: str
    name: str
    arguments: str = Field(description="JSON text.")


OutputItem: TypeAlias = Annotated[MessageItem | ReasoningItem | FunctionCallItem, Field(discriminator="type")]


class IncompleteDetails(BaseModel):
    """Why a response ends before it was finished."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseError(BaseModel):
    """Why a response failed."""

    code: Literal["server_error"] = "server_error"
    message: str


class InputTokensDetails(BaseModel):
    """Parts of `input_tokens`."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(BaseModel):
    """Parts of `output_tokens`."""

    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """Tokens of a response; `araio` has its receipt."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int
    araio: dict[str, Any]


class ResponseDocument(BaseModel):
    """A response: what was asked for, and what came of it so far."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputItem] = Field(default_factory=list)
    usage: ResponseUsage | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int = 0
    reasoning: dict[str, Any]
    text: dict[str, Any]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool = True
    metadata: dict[str, str]
    user: str | None = None
    # What a server that keeps nothing always says.
    store: Literal[False] = False
    background: Literal[False] = False
    previous_response_id: None = None
    truncation: Literal["disabled"] = "disabled"
    service_tier: Literal["default"] = "default"
