"""`plain_messages`: a conversation as clients send it, in the one shape that the chat formats read.

Clients know two names for the system's role and for an answer's reasoning, and send texts in one or several
parts. Refuses parts that are not text. Read `chat.py` next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from araio.errors import TextError
from araio.json_reader import shown
from araio.text.deepseek import Message

__all__ = ["plain_messages", "reasoning_of"]


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Copies of the messages: a developer is a system, parts are joined by line breaks into one text.

    An answer's reasoning is `reasoning_content`, and an answer that was cut off while reasoning says nothing.
    Whatever else is in a message stays as it is. Raises TextError for an empty conversation, for a message
    that is no object, and for a part that is no text.
    """
    if not messages:
        raise TextError("the conversation is empty; it needs at least one message")
    return [_plain(message) for message in messages]


def reasoning_of(message: Message) -> str:
    """The reasoning of an earlier answer under either of its names; none is empty."""
    for name in ("reasoning_content", "reasoning"):
        reasoning = message.get(name)
        if isinstance(reasoning, str):
            return reasoning
    return ""


def _plain(message: object) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise TextError(f"a message is a {type(message).__name__}; expected an object with role and content")
    plain = dict(message)
    if plain.get("role") == "developer":
        plain["role"] = "system"
    if isinstance(plain.get("content"), list):
        plain["content"] = "\n".join(_text(part) for part in plain["content"])
    if plain.get("role") == "assistant":
        reasoning = reasoning_of(plain)
        if reasoning:
            plain["reasoning_content"] = reasoning
            if plain.get("content") is None and not plain.get("tool_calls"):
                plain["content"] = ""
    return plain


def _text(part: object) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else part
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(text, str):
        return text
    raise TextError(
        f"a message's content has a part of type {shown(kind)}; this model reads text, "
        'as {"type": "text", "text": ...}'
    )
