"""`Ask`: what a request of any dialect comes to: messages, and the keywords of `Model.prepare` beside them.

The dialects translate into it and share what is the same in each: tools in OpenAI's chat shape, and an
assistant's turn that is put together from parts. Read `responses_ask.py` and `messages_ask.py` for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from araio.engine.forms import ChatOptions
from araio.text.chat import ChatFormat, Prompt

__all__ = [
    "Ask",
    "AssistantTurn",
    "function_call",
    "function_choice",
    "function_tool",
    "given",
    "json_schema",
]


@dataclass(frozen=True)
class Ask:
    """A conversation in OpenAI's chat shape, and how to answer it.

    options  keywords of `Model.prepare`; those that the request leaves open are missing
    fields   what the dialect calls them, where it has another name: errors are about what was sent
    """

    messages: list[dict[str, Any]]
    options: dict[str, Any]
    fields: Mapping[str, str] = field(default_factory=dict)

    def prompt(self, chat_format: ChatFormat) -> Prompt:
        """What the model would be given; of the options, those that the prompt depends on may be there.

        Raises:
            TextError: a conversation or tools that the format cannot hold.
        """
        options = ChatOptions(**self.options)
        tools, choice = options.read_tools()
        return chat_format.render(
            self.messages,
            tools=tools,
            tool_choice=choice,
            continue_final_message=options.continue_final_message,
        )


@dataclass
class AssistantTurn:
    """One assistant's message, whose reasoning, text and calls come as separate items or blocks."""

    reasoning: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def message(self) -> dict[str, Any]:
        """The message in OpenAI's chat shape."""
        content = "".join(self.text)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            # Some templates take calls for calls only where there is no text.
            message |= {"content": content or None, "tool_calls": self.calls}
        return message


def function_tool(name: str, description: str | None, parameters: dict[str, Any] | None) -> dict[str, Any]:
    """A tool in OpenAI's chat shape."""
    function: dict[str, Any] = {"name": name}
    if description is not None:
        function["description"] = description
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


def function_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """A call in OpenAI's chat shape.

    arguments  JSON text
    """
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def function_choice(name: str) -> dict[str, Any]:
    """A `tool_choice` of one function in OpenAI's chat shape."""
    return {"type": "function", "function": {"name": name}}


def json_schema(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A `response_format` in OpenAI's chat shape."""
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def given(**options: Any) -> dict[str, Any]:
    """Those that are not None: what a request leaves open is the checkpoint's to say."""
    return {name: value for name, value in options.items() if value is not None}
