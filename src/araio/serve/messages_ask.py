"""A request of `POST /v1/messages` as an `Ask`: its blocks become the messages of a chat.

Results of tools are blocks of a user's turn there, and messages of their own here. Where a conversation ends
in an assistant's turn, the model continues it. Refuses blocks in turns where they have no meaning. Read
`messages_events.py` for the way back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
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
from araio.serve.errors import ApiError, invalid
from araio.serve.schema_messages import (
    Block,
    CountTokensRequest,
    MessageParam,
    MessagesRequest,
    NamedChoice,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ThinkingDisabled,
    ThinkingEnabled,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)

__all__ = ["ask_of", "conversation_of"]

PARAGRAPH = "\n\n"
FIELDS = {"prompt": "messages", "stop": "stop_sequences", "response_format": "output_config.format"}
# Of `tool_choice`: Anthropic's word to OpenAI's.
MODES = {"auto": "auto", "any": "required", "none": "none"}


def ask_of(request: MessagesRequest) -> Ask:
    """What a request comes to.

    Raises:
        ApiError: as `conversation_of`.
    """
    conversation = conversation_of(request)
    options = given(
        max_tokens=request.max_tokens,
        stop=request.stop_sequences or None,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        thinking_budget=_budget(request),
        response_format=_format(request),
        profile=request.profile,
    )
    return Ask(conversation.messages, {**conversation.options, **options}, FIELDS)


def conversation_of(request: CountTokensRequest) -> Ask:
    """The part of a request that the prompt is made of.

    Raises:
        ApiError: a block that its turn cannot have.
    """
    messages = [] if request.system is None else [{"role": "system", "content": _text(request.system)}]
    for role, turns in groupby(enumerate(request.messages), lambda turn: turn[1].role):
        blocks = [(f"messages[{place}]", block) for place, turn in turns for block in _blocks(turn)]
        messages += [_assistant(blocks)] if role == "assistant" else _others(role, blocks)
    options = _tools(request)
    if request.messages[-1].role == "assistant":
        options["continue_final_message"] = True
    return Ask(messages, options)


def _blocks(message: MessageParam) -> Sequence[Block]:
    content = message.content
    return [TextBlock(type="text", text=content)] if isinstance(content, str) else content


def _assistant(blocks: Sequence[tuple[str, Block]]) -> dict[str, Any]:
    turn = AssistantTurn()
    for place, block in blocks:
        if isinstance(block, TextBlock):
            turn.text.append(block.text)
        elif isinstance(block, ThinkingBlock):
            turn.reasoning.append(block.thinking)
        elif isinstance(block, ToolUseBlock):
            arguments = json.dumps(block.input, ensure_ascii=False)
            turn.calls.append(function_call(block.id, block.name, arguments))
        elif not isinstance(block, RedactedThinkingBlock):
            raise _misplaced(place, block, "assistant")
    return turn.message()


def _others(role: str, blocks: Sequence[tuple[str, Block]]) -> list[dict[str, Any]]:
    """The messages of a turn of the user's or the system's: what tools gave first, then the text."""
    results: list[dict[str, Any]] = []
    texts: list[str] = []
    for place, block in blocks:
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolResultBlock) and role == "user":
            content = _text(block.content)
            # The chat formats have no mark for it, so it is said.
            content = f"Error: {content}" if block.is_error else content
            results.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": content})
        else:
            raise _misplaced(place, block, role)
    return results + ([{"role": role, "content": PARAGRAPH.join(texts)}] if texts or not results else [])


def _misplaced(place: str, block: Block, role: str) -> ApiError:
    return invalid(f"{place} has a block of type {block.type!r}, which no turn of role {role!r} has", place)


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else PARAGRAPH.join(block.text for block in content)


def _tools(request: CountTokensRequest) -> dict[str, Any]:
    tools = [function_tool(tool.name, tool.description, tool.input_schema) for tool in request.tools or ()]
    return given(
        tools=tools or None,
        tool_choice=_choice(request.tool_choice),
        parallel_tool_calls=False if request.has_single_call else None,
    )


def _choice(choice: ToolChoice | None) -> str | dict[str, Any] | None:
    if isinstance(choice, NamedChoice):
        return function_choice(choice.name)
    return None if choice is None else MODES[choice.type]


def _budget(request: MessagesRequest) -> int | None:
    if isinstance(request.thinking, ThinkingDisabled):
        return 0
    if isinstance(request.thinking, ThinkingEnabled):
        return request.thinking.budget_tokens
    effort = None if request.output_config is None else request.output_config.effort
    return budget_of(effort, None)


def _format(request: MessagesRequest) -> dict[str, Any] | None:
    wanted = None if request.output_config is None else request.output_config.format
    if wanted is None:
        return None
    return json_schema("answer", wanted.schema_)
