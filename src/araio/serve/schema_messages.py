"""What `POST /v1/messages` takes: Anthropic's Messages as far as a model of text can answer them.

Types and ranges only; what a field comes to is said in `messages_ask.py`. Blocks of other kinds (images,
documents, tools that Anthropic runs) are refused by name. `messages_document.py` has what comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from araio.engine.request import MAX_SEED
from araio.serve.errors import check_count
from araio.serve.schema import MAX_INTEGER, Body, ProfileName, RequestBody, StopString
from araio.serve.schema_chat import FunctionName
from araio.serve.schema_parts import check_room, check_schemas, check_stop, text_or_list
from araio.serve.settings import Settings

__all__ = [
    "Block",
    "CountTokensRequest",
    "MessageParam",
    "MessagesRequest",
    "RedactedThinkingBlock",
    "System",
    "TextBlock",
    "ThinkingBlock",
    "Tool",
    "ToolChoice",
    "ToolResultBlock",
    "ToolUseBlock",
]


class TextBlock(Body):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ThinkingBlock(Body):
    """Thinking of an earlier turn; the chat format decides whether the model sees it again."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Body):
    """Thinking that another service has hidden; there is nothing in it that a model could read."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(Body):
    """A call that the model made in an earlier turn."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


TextBlocks: TypeAlias = Annotated[
    Annotated[str, Tag("str")] | Annotated[list[TextBlock], Tag("list")], Discriminator(text_or_list)
]


class ToolResultBlock(Body):
    """What a tool gave for a call."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: TextBlocks = ""
    is_error: bool = False


Block: TypeAlias = Annotated[
    TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock,
    Field(discriminator="type"),
]
System: TypeAlias = TextBlocks


class MessageParam(Body):
    """A turn; turns of one role that follow each other count as one."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[
        Annotated[str, Tag("str")] | Annotated[list[Block], Tag("list")], Discriminator(text_or_list)
    ]


class Tool(Body):
    """A function of the client's that the model may call."""

    type: Literal["custom"] | None = None
    name: FunctionName
    description: str | None = None
    input_schema: dict[str, Any]


class ModeChoice(Body):
    """Whether a tool may, must, or must not be called."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool = False


class NamedChoice(Body):
    """The one tool that must be called."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool = False


ToolChoice: TypeAlias = Annotated[ModeChoice | NamedChoice, Field(discriminator="type")]
Display: TypeAlias = Literal["summarized", "omitted"]


class ThinkingEnabled(Body):
    """Thinking up to a number of tokens; fewer than Anthropic's 1,024 are taken too."""

    type: Literal["enabled"]
    budget_tokens: int = Field(ge=1)
    display: Display | None = None


class ThinkingAdaptive(Body):
    """Thinking for as long as the model likes, which is also what happens without `thinking`."""

    type: Literal["adaptive"]
    display: Display | None = None


class ThinkingDisabled(Body):
    """No thinking."""

    type: Literal["disabled"]


Thinking: TypeAlias = Annotated[
    ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled, Field(discriminator="type")
]


class JsonSchemaFormat(Body):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Body):
    """How long to think, by word, and the form of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonSchemaFormat | None = None


class CountTokensRequest(RequestBody):
    """The body of `POST /v1/messages/count_tokens`: what a prompt is made of."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "container": "nothing is run here; tools are called by the client",
        "mcp_servers": "nothing is asked from here; tools are called by the client",
    }

    model: str = Field(max_length=1024)
    messages: list[MessageParam] = Field(min_length=1)
    system: System | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    @property
    def has_single_call(self) -> bool:
        """Whether the answer ends behind its first call."""
        return self.tool_choice is not None and self.tool_choice.disable_parallel_tool_use

    def check(self, settings: Settings, context: int) -> None:
        """Refuse what is more than this server, or this model, allows.

        Raises:
            ApiError: naming the field.
        """
        self.check_fields()
        check_count("messages", len(self.messages), settings.messages, "messages")
        check_count("tools", len(self.tools or []), settings.tools, "tools")
        schemas = {f"tools[{place}]": tool.input_schema for place, tool in enumerate(self.tools or [])}
        if self.output_config is not None and self.output_config.format is not None:
            schemas["output_config.format"] = self.output_config.format.schema_
        check_schemas(schemas, settings)


class MessagesRequest(CountTokensRequest):
    """The body of `POST /v1/messages`."""

    max_tokens: int = Field(ge=1, le=MAX_INTEGER, description="Of thinking and answer together.")
    stop_sequences: list[StopString] | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=MAX_INTEGER)
    stream: bool | None = None
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="One seed gives one text (araio's own).")
    profile: ProfileName = None

    def check(self, settings: Settings, context: int) -> None:
        """Refuse what is more than this server, or this model, allows.

        Raises:
            ApiError: naming the field.
        """
        super().check(settings, context)
        check_room("max_tokens", self.max_tokens, context)
        check_stop("stop_sequences", self.stop_sequences or [], settings)
