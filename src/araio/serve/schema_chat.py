"""`ChatRequest`: the body of `POST /v1/chat/completions`, with extensions that other servers have, too.

Read `schema.py` for the fields that it shares, `chat.py` for what becomes of it, `schema_answers.py` for
what comes back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from araio.engine.effort import Effort, budget_of
from araio.engine.request import MAX_LOGPROBS
from araio.engine.tokens import Watch
from araio.serve.errors import check_count, invalid
from araio.serve.schema import MAX_INTEGER, Body, SamplingFields, not_supported
from araio.serve.settings import Settings

__all__ = ["ChatRequest", "Message", "ResponseFormat", "Tool"]

THINKING_KWARGS = ("thinking", "enable_thinking")
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class ContentPart(Body):
    """A part of a message; only text can be read."""

    type: Literal["text"]
    text: str


class CalledFunction(Body):
    """The function of a tool call in the history."""

    name: FunctionName
    arguments: str


class ToolCall(Body):
    """A tool call in the history."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Body):
    """One message; the thinking of earlier answers may come back under either name."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The message as `ChatFormat.render` reads it."""
        return self.model_dump(exclude_none=True, include=set(type(self).model_fields))


class Function(Body):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema of an object.")
    strict: bool | None = None


class Tool(Body):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class FunctionReference(Body):
    """The name of a function that must be called."""

    name: FunctionName


class NamedToolChoice(Body):
    """The one tool that must be called."""

    type: Literal["function"]
    function: FunctionReference


class JsonSchema(Body):
    """A schema that the answer must fulfil."""

    name: str | None = Field(None, max_length=256)
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """What the answer, behind the thinking, must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def to_dict(self) -> dict[str, Any] | None:
        """The format as `Model.prepare` reads it; None leaves the model free."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "json_object"}
        if self.json_schema is None:
            raise invalid("response_format of type json_schema needs json_schema.schema", "response_format")
        return {"type": "json_schema", "json_schema": {"schema": self.json_schema.schema_}}


class ChatRequest(SamplingFields):
    """A conversation that asks for its next answer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"messages": [{"role": "user", "content": "What is 2 + 3?"}]}]}
    )

    unsupported: ClassVar[Mapping[str, str]] = {
        "functions": "give tools",
        "function_call": "give tool_choice",
        "audio": "this model writes text",
        "prediction": "leave it out",
        "web_search_options": "leave it out",
        "best_of": "give n",
        "prompt_logprobs": "ask /v1/completions with echo and logprobs",
    }

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_INTEGER, description="Of thinking and answer together, at most the context."
    )
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_INTEGER, description="The same.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS, description="Needs logprobs: true.")
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="false ends the answer behind its first call.")
    reasoning_effort: Effort | None = Field(
        None,
        description="Tokens of thinking: none 0, minimal 256, low 1024, medium 4096, from high on no limit.",
    )
    thinking_token_budget: int | None = Field(
        None, ge=0, le=MAX_INTEGER, description="Tokens of thinking; goes before reasoning_effort."
    )
    repetition_guard: bool | None = Field(
        None, description="true closes a thinking that only repeats itself, and ends an answer that does."
    )
    include_reasoning: bool | None = Field(None, description="false keeps the thinking to the server.")
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="`thinking` or `enable_thinking`: false closes the thinking at once."
    )
    continue_final_message: bool | None = Field(
        None, description="Go on with the last message, an assistant's, instead of a new one."
    )
    add_generation_prompt: bool | None = Field(None, description="The opposite of continue_final_message.")
    return_progress: bool | None = Field(None, description="A stream tells how much of the prompt has run.")
    reasoning_control: bool | None = Field(
        None, description="Accepted; every request can be controlled by its id."
    )
    watch_experts: bool | None = Field(None, description="A stream tells each token's experts (araio's own).")

    def check(self, settings: Settings, context: int) -> None:
        """Refuse what is more than this server, or this model, allows, and fields that contradict others.

        Raises:
            ApiError: naming the field.
        """
        if (modalities := (self.model_extra or {}).get("modalities")) and modalities != ["text"]:
            raise not_supported("modalities", "modalities is not supported; this model writes text")
        super().check(settings, context)
        check_count("messages", len(self.messages), settings.messages, "messages")
        check_count("tools", len(self.tools or []), settings.tools, "tools")
        check_count("top_logprobs", self.top_logprobs or 0, settings.top_logprobs, "top_logprobs")
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs needs logprobs: true", "top_logprobs")
        self._check_template_fields()
        self._check_schemas(settings.schema_bytes)

    def _check_template_fields(self) -> None:
        if self.add_generation_prompt is not None and self.add_generation_prompt == bool(
            self.continue_final_message
        ):
            raise not_supported(
                "add_generation_prompt",
                "add_generation_prompt must be the opposite of continue_final_message (false if absent)",
            )
        for name, value in (self.chat_template_kwargs or {}).items():
            if name not in THINKING_KWARGS or not isinstance(value, bool):
                known = " and ".join(THINKING_KWARGS)
                raise not_supported(
                    "chat_template_kwargs",
                    f"chat_template_kwargs holds {name[:40]!r}; known are {known}, each true or false",
                )

    def _check_schemas(self, most: int) -> None:
        schemas = [("tools", tool.function.parameters) for tool in self.tools or []]
        if self.response_format is not None and self.response_format.json_schema is not None:
            schemas.append(("response_format", self.response_format.json_schema.schema_))
        for param, schema in schemas:
            check_count(param, len(json.dumps(schema)), most, "schema_bytes")
        if isinstance(self.tool_choice, NamedToolChoice) or self.tool_choice == "required":
            self._check_tool_choice(self.tool_choice)

    def _check_tool_choice(self, choice: str | NamedToolChoice) -> None:
        names = [tool.function.name for tool in self.tools or []]
        if not names:
            raise invalid("tool_choice asks for a tool call, and there are no tools", "tool_choice")
        if isinstance(choice, NamedToolChoice) and choice.function.name not in names:
            raise invalid(
                f"tool_choice asks for {choice.function.name!r}; the tools are {', '.join(names)[:200]}",
                "tool_choice",
            )

    @property
    def thinking_budget(self) -> int | None:
        """Tokens that the thinking may take; None does not limit it."""
        kwargs = self.chat_template_kwargs or {}
        if any(kwargs.get(name) is False for name in THINKING_KWARGS):
            return 0
        return budget_of(self.reasoning_effort, self.thinking_token_budget)

    def _watched(self) -> Watch | None:
        if self.return_routed_experts:
            return "all"
        return "answer" if self.watch_experts else None

    def sampling(self, choice: int = 0) -> dict[str, Any]:
        """How to choose the tokens of one of the choices."""
        given = super().sampling(choice)
        if (most := self.max_completion_tokens or self.max_tokens) is not None:
            given["max_tokens"] = most
        if self.logprobs:
            given["logprobs"] = self.top_logprobs or 0
        return given

    def options(self) -> dict[str, Any]:
        """The other keywords of `Model.prepare`, which are alike for all choices."""
        choice = self.tool_choice
        given: dict[str, Any] = {
            "thinking_budget": self.thinking_budget,
            "repetition_guard": self.repetition_guard or None,
            "continue_final_message": self.continue_final_message or None,
            "watch_experts": self._watched(),
            "profile": self.profile,
            "response_format": None if self.response_format is None else self.response_format.to_dict(),
        }
        if self.tools and choice != "none":
            given["tools"] = [tool.model_dump(exclude_none=True) for tool in self.tools]
            given["tool_choice"] = choice.model_dump() if isinstance(choice, NamedToolChoice) else choice
            given["parallel_tool_calls"] = self.parallel_tool_calls
        return {name: value for name, value in given.items() if value is not None}
