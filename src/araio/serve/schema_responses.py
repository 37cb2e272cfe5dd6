"""What `POST /v1/responses` takes: OpenAI's Responses as far as a server that keeps nothing can answer them.

Types and ranges only; what a field comes to is said in `responses_ask.py`. Fields that would need a store are
known and refused by name. `responses_document.py` has what comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from araio.engine.effort import Effort
from araio.engine.request import MAX_LOGPROBS, MAX_SEED
from araio.serve.errors import check_count
from araio.serve.schema import MAX_INTEGER, Body, ProfileName, RequestBody
from araio.serve.schema_chat import FunctionName
from araio.serve.schema_parts import check_room, check_schemas, tag_of, text_or_list
from araio.serve.settings import Settings

__all__ = [
    "AllowedTools",
    "FunctionCall",
    "FunctionCallOutput",
    "FunctionChoice",
    "FunctionTool",
    "InputItem",
    "InputMessage",
    "JsonSchemaFormat",
    "Part",
    "Reasoning",
    "ReasoningItem",
    "ResponsesRequest",
    "TextConfig",
]


class TextPart(Body):
    """A piece of text in a message, or in what a tool gave."""

    type: Literal["input_text", "output_text"]
    text: str


class RefusalPart(Body):
    """A refusal that some model gave in an earlier turn; it reads as text."""

    type: Literal["refusal"]
    refusal: str


Part: TypeAlias = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Content: TypeAlias = Annotated[
    Annotated[str, Tag("str")] | Annotated[list[Part], Tag("list")], Discriminator(text_or_list)
]


class InputMessage(Body):
    """A message of the conversation; one that an earlier response gave is sent back as it was."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class FunctionCall(Body):
    """A call that the model made in an earlier turn."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class FunctionCallOutput(Body):
    """What a tool gave for a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: Content


class ReasoningText(Body):
    """A piece of reasoning, or of a summary of it."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Body):
    """Reasoning of an earlier turn; the chat format decides whether the model sees it again."""

    type: Literal["reasoning"]
    content: list[ReasoningText] | None = None
    summary: list[ReasoningText] = Field(default_factory=list)


InputItem: TypeAlias = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(
        tag_of("message"),
        custom_error_type="item_type",
        custom_error_message="araio knows items of type message, function_call, function_call_output and "
        "reasoning, and keeps none that could be referred to",
    ),
]


class FunctionTool(Body):
    """A function of the client's that the model may call."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(Body):
    """The one function that must be called."""

    type: Literal["function"]
    name: str


class AllowedTools(Body):
    """Those of the tools that may be called in this turn."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[FunctionChoice] = Field(min_length=1)


ToolChoice: TypeAlias = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("mode")]
    | Annotated[FunctionChoice, Tag("function")]
    | Annotated[AllowedTools, Tag("allowed_tools")],
    Discriminator(tag_of("mode")),
]


class PlainFormat(Body):
    """Free text, or any JSON object."""

    type: Literal["text", "json_object"]


class JsonSchemaFormat(Body):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    name: FunctionName
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextConfig(Body):
    """The form of the answer; how long it is cannot be asked for by word."""

    format: Annotated[PlainFormat | JsonSchemaFormat, Field(discriminator="type")] = PlainFormat(type="text")
    verbosity: Literal["medium"] | None = None


class Reasoning(Body):
    """How long to think. A summary may be asked for and stays empty: the reasoning itself is given."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class ResponsesRequest(RequestBody):
    """The body of `POST /v1/responses`."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "store": "nothing is kept between two requests",
        "previous_response_id": "nothing is kept between two requests; send the items of the conversation",
        "conversation": "nothing is kept between two requests; send the items of the conversation",
        "prompt": "there are no stored prompts; send input and instructions",
        "background": "ask with stream, or wait for the answer",
    }

    model: str | None = Field(None, max_length=1024, description="Id of the model; the served one if absent.")
    input: Annotated[
        Annotated[str, Tag("str")] | Annotated[list[InputItem], Field(min_length=1), Tag("list")],
        Discriminator(text_or_list),
    ]
    instructions: str | None = None
    max_output_tokens: int | None = Field(
        None, ge=1, le=MAX_INTEGER, description="Of thinking and answer together, at most the context."
    )
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    reasoning: Reasoning | None = None
    text: TextConfig | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="false ends the answer behind its first call.")
    include: list[str] | None = Field(
        None, description="`message.output_text.logprobs`; others change nothing."
    )
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS, description="Needs include.")
    stream: bool | None = None
    truncation: Literal["disabled"] | None = Field(None, description="What does not fit is refused.")
    metadata: dict[str, str] | None = Field(None, description="Given back as it came.")
    user: str | None = Field(None, max_length=1024, description="Accepted, and used for nothing.")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="One seed gives one text (araio's own).")
    thinking_token_budget: int | None = Field(
        None, ge=0, le=MAX_INTEGER, description="Tokens of thinking; goes before reasoning (araio's own)."
    )
    profile: ProfileName = None

    @property
    def wants_logprobs(self) -> bool:
        """Whether the text is to come with its log-probabilities."""
        return "message.output_text.logprobs" in (self.include or ())

    def check(self, settings: Settings, context: int) -> None:
        """Refuse what is more than this server, or this model, allows.

        Raises:
            ApiError: naming the field.
        """
        self.check_fields()
        if not isinstance(self.input, str):
            check_count("input", len(self.input), settings.messages, "messages")
        schemas = {f"tools[{place}]": tool.parameters for place, tool in enumerate(self.tools or [])}
        if self.text is not None and isinstance(self.text.format, JsonSchemaFormat):
            schemas["text.format"] = self.text.format.schema_
        check_schemas(schemas, settings)
        check_count("tools", len(self.tools or []), settings.tools, "tools")
        check_count("top_logprobs", self.top_logprobs or 0, settings.top_logprobs, "top_logprobs")
        check_room("max_output_tokens", self.max_output_tokens, context)
