"""`Tool`, `ToolChoice` and `tools_prompt`: the tools a request offers, and how a model is told of them.

DeepSeek's published templates write tool calls and their outputs, but say nothing of which tools there are;
so `tools_prompt` says it, in front of the system message. Refuses tools that are not functions in OpenAI's
shape. araio never runs a tool: calls are handed back. Read `tool_calls.py` next for calls in an answer,
`grammar.py` for calls that must come.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from araio.errors import TextError
from araio.json_reader import shown
from araio.text.deepseek import CALL_BEGIN, CALL_END, CALLS_BEGIN, CALLS_END, SEPARATOR
from araio.text.tokenizer import Span

__all__ = ["Tool", "ToolChoice", "read_tools", "tools_prompt"]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MOST_NAMES_SHOWN = 200  # characters of them, in a message
INTRODUCTION = (
    "You can call tools. Each is listed with its name, what it does, and the JSON schema that its arguments "
    "follow."
)
DUTIES = {
    "auto": "Call a tool if it helps to answer; otherwise answer without.",
    "required": "You must call {name}.",
}
FORM = (
    "To call tools, end your answer with the calls in exactly this form, one call per tool, with the name of "
    "the tool for NAME and a JSON object for ARGUMENTS:"
)
CONCLUSION = "You are given their outputs next."


def no_parameters() -> dict[str, Any]:
    """What a function takes that says nothing of it, as OpenAI reads it: nothing."""
    return {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True)
class Tool:
    """A function that the model may ask to have called; `parameters` is a JSON schema of an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=no_parameters)

    def to_document(self) -> dict[str, Any]:
        """The tool in OpenAI's shape."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class ToolChoice:
    """Whether the model may, must or must not call tools; `name` is the one it must call, if any."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str | None = None

    @classmethod
    def read(cls, choice: str | Mapping[str, Any] | None, tools: Sequence[Tool]) -> ToolChoice:
        """A request's `tool_choice` in OpenAI's shape; without one it is "auto", without tools "none".

        Raises TextError for another shape, and for a call that is required of no tool or an unknown one.
        """
        if choice is None:
            choice = "auto"
        if choice in ("none", "auto"):
            return cls("auto" if choice == "auto" and tools else "none")
        if choice == "required":
            name = None
        elif isinstance(choice, Mapping) and choice.get("type") == "function":
            function = choice.get("function")
            name = function.get("name") if isinstance(function, Mapping) else None
            if name not in [tool.name for tool in tools]:
                known = ", ".join(tool.name for tool in tools)[:MOST_NAMES_SHOWN] or "none"
                raise TextError(
                    f"tool_choice names the function {shown(name)}; the request's tools are: {known}"
                )
        else:
            raise TextError(
                f"tool_choice is {shown(choice)}; expected 'none', 'auto', 'required' or "
                '{"type": "function", "function": {"name": ...}}'
            )
        if not tools:
            raise TextError("tool_choice is 'required', but the request has no tools")
        return cls("required", name)

    def candidates(self, tools: Sequence[Tool]) -> list[Tool]:
        """The tools that may be called under this choice."""
        if self.mode == "none":
            return []
        return [tool for tool in tools if self.name in (None, tool.name)]


def read_tools(documents: Sequence[Mapping[str, Any]] | None) -> tuple[Tool, ...]:
    """Tools in OpenAI's shape: `{"type": "function", "function": {"name", "description", "parameters"}}`.

    Raises TextError with the place of the first thing that is wrong.
    """
    tools = tuple(_tool(f"tools[{index}]", document) for index, document in enumerate(documents or ()))
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise TextError(f"two tools have the name {name!r}; names must differ")
    return tools


def tools_prompt(tools: Sequence[Tool], choice: ToolChoice) -> list[Span]:
    """What a model reads of its tools, for a format that has no place for them.

    Only the form of a call is trusted: there the control tokens are real, in a description they are text.
    """
    duty = DUTIES[choice.mode].format(name=choice.name or "one of them")
    call = f"{CALL_BEGIN}function{SEPARATOR}NAME\n```json\nARGUMENTS\n```{CALL_END}"
    return [
        Span(INTRODUCTION + "\n\n", is_trusted=True),
        Span("\n\n".join(map(_described, tools)), is_trusted=False),
        Span(f"\n\n{duty} {FORM}\n{CALLS_BEGIN}{call}{CALLS_END}\n{CONCLUSION}", is_trusted=True),
    ]


def _described(tool: Tool) -> str:
    about = f"{tool.name}: {tool.description}" if tool.description else tool.name
    return f"{about}\n{json.dumps(dict(tool.parameters), ensure_ascii=False)}"


def _tool(place: str, document: Any) -> Tool:
    if not isinstance(document, Mapping) or document.get("type") != "function":
        kind = document.get("type") if isinstance(document, Mapping) else document
        raise TextError(f"{place} is of type {shown(kind)}; only tools of type 'function' are supported")
    function = document.get("function")
    if not isinstance(function, Mapping):
        raise TextError(f"{place}.function is missing; expected an object with 'name' and 'parameters'")
    name, about = function.get("name"), function.get("description") or ""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise TextError(
            f"{place}.function.name is {shown(name)}; expected 1 to 64 letters, digits, '_' or '-'"
        )
    if not isinstance(about, str):
        raise TextError(f"{place}.function.description is a {type(about).__name__}; expected a string")
    parameters = function.get("parameters")
    if parameters is None:
        return Tool(name, about)
    if not isinstance(parameters, Mapping):
        raise TextError(f"{place}.function.parameters is a {type(parameters).__name__}; expected an object")
    return Tool(name, about, parameters)
