"""A request of `POST /v1/responses` as an `Ask`: its items become the messages of a chat.

Reasoning, text and calls of one answer are separate items there, and one message here. Refuses what a
server that keeps nothing cannot know. Read `responses_events.py` for the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from araio.engine.effort import budget_of
from araio.serve.ask import (
    Ask,
    AssistantTurn,
    function_call,
    function_choice,
    function_tool,
    given,
    json_schema,
)
from araio.serve.errors import invalid
from araio.serve.schema_responses import (
    AllowedTools,
    FunctionCall,
    FunctionCallOutput,
    FunctionChoice,
    FunctionTool,
    InputItem,
    JsonSchemaFormat,
    Part,
    ReasoningItem,
    ResponsesRequest,
    TextPart,
)

__all__ = ["ask_of"]

FIELDS = {
    "prompt": "input",
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
}


def ask_of(request: ResponsesRequest) -> Ask:
    """What a request comes to.

    Raises:
        ApiError: a function is allowed that is not among the tools.
    """
    messages: list[dict[str, Any]] = []
    if request.instructions is not None:
        messages.append({"role": "system", "content": request.instructions})
    if isinstance(request.input, str):
        messages.append({"role": "user", "content": request.input})
    else:
        chat = _Chat()
        for item in request.input:
            chat.add(item)
        messages += chat.messages()
    return Ask(messages, {**_sampling(request), **_tools(request), **_format(request)}, FIELDS)


class _Chat:
    """Messages as they are put together; the last of them may be an assistant's that is still open."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._turn: AssistantTurn | None = None

    def add(self, item: InputItem) -> None:
        if isinstance(item, FunctionCall):
            self._turn = self._turn or AssistantTurn()
            self._turn.calls.append(function_call(item.call_id, item.name, item.arguments))
        elif isinstance(item, ReasoningItem):
            self._next_turn().reasoning += [part.text for part in item.content or item.summary]
        elif isinstance(item, FunctionCallOutput):
            self._say({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)})
        elif item.role == "assistant":
            self._next_turn().text.append(_text(item.content))
        else:
            self._say({"role": item.role, "content": _text(item.content)})

    def messages(self) -> list[dict[str, Any]]:
        self._close()
        return self._messages

    def _next_turn(self) -> AssistantTurn:
        """The turn that reasoning or text belongs to: behind text or calls, they begin a new one."""
        if self._turn is None or self._turn.text or self._turn.calls:
            self._close()
            self._turn = AssistantTurn()
        return self._turn

    def _say(self, message: dict[str, Any]) -> None:
        self._close()
        self._messages.append(message)

    def _close(self) -> None:
        if self._turn is not None:
            self._messages.append(self._turn.message())
        self._turn = None


def _text(content: str | list[Part]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)


def _sampling(request: ResponsesRequest) -> dict[str, Any]:
    budget = request.thinking_token_budget
    if budget is None and request.reasoning is not None:
        budget = budget_of(request.reasoning.effort, None)
    return given(
        max_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        logprobs=(request.top_logprobs or 0) if request.wants_logprobs else None,
        thinking_budget=budget,
        profile=request.profile,
    )


def _tools(request: ResponsesRequest) -> dict[str, Any]:
    tools, choice = request.tools or [], request.tool_choice
    if isinstance(choice, AllowedTools):
        tools = _allowed(choice, tools)
    if isinstance(choice, FunctionChoice):
        wanted: Any = function_choice(choice.name)
    else:
        wanted = choice.mode if isinstance(choice, AllowedTools) else choice
    return given(
        tools=[function_tool(tool.name, tool.description, tool.parameters) for tool in tools] or None,
        tool_choice=wanted,
        parallel_tool_calls=request.parallel_tool_calls,
    )


def _allowed(choice: AllowedTools, tools: Sequence[FunctionTool]) -> list[FunctionTool]:
    allowed, names = {tool.name for tool in choice.tools}, [tool.name for tool in tools]
    for name in sorted(allowed.difference(names)):
        there_are = ", ".join(names) or "none"
        raise invalid(f"tool_choice allows {name!r}; the tools are: {there_are}", "tool_choice")
    return [tool for tool in tools if tool.name in allowed]


def _format(request: ResponsesRequest) -> dict[str, Any]:
    wanted = None if request.text is None else request.text.format
    if wanted is None or wanted.type == "text":
        return {}
    if isinstance(wanted, JsonSchemaFormat):
        return {"response_format": json_schema(wanted.name, wanted.schema_)}
    return {"response_format": {"type": "json_object"}}
