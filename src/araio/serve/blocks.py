"""`Blocks`: an answer's deltas gathered into runs of one kind, for the dialects that stream in blocks.

Reasoning, text and each call of a tool are a block of their own, opened by its first piece and closed by the
next block's or by the end. Knows nothing of any wire format. Read `responses_events.py` or
`messages_events.py` for what becomes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from araio.engine.answer import ContentDelta, Delta, ReasoningDelta, ToolCallDelta

__all__ = ["Block", "Blocks", "Change", "Kind", "What"]


class Kind(Enum):
    """What a block holds."""

    REASONING = auto()
    TEXT = auto()
    CALL = auto()


class What(Enum):
    """What happened to a block."""

    OPENED = auto()
    GREW = auto()
    CLOSED = auto()


@dataclass
class Block:
    """One run of an answer.

    index    place among the blocks
    pieces   of its text so far
    call_id  of a call
    name     of the function that is called
    """

    kind: Kind
    index: int
    pieces: list[str] = field(default_factory=list)
    call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """All of it; of a call, its arguments."""
        return "".join(self.pieces)


class Change(NamedTuple):
    """Something that happened to a block, in order.

    piece  what it grew by
    """

    what: What
    block: Block
    piece: str = ""


class Blocks:
    """The blocks of one answer as it comes."""

    def __init__(self) -> None:
        self._count = 0
        self._open: Block | None = None
        self._call: int | None = None  # number of the call that is open

    def take(self, delta: Delta) -> list[Change]:
        """What a delta changes: it may close a block, open one, and lets one grow."""
        kind, piece = _KINDS[type(delta)], _piece(delta)
        call = delta.index if isinstance(delta, ToolCallDelta) else None
        changes = []
        block = self._open
        if block is None or block.kind is not kind or call != self._call:
            changes += self.close()
            block = Block(kind, self._count)
            if isinstance(delta, ToolCallDelta):
                block.call_id, block.name = delta.id or "", delta.name or ""
            self._count += 1
            self._open, self._call = block, call
            changes.append(Change(What.OPENED, block))
        if piece:
            block.pieces.append(piece)
            changes.append(Change(What.GREW, block, piece))
        return changes

    def close(self) -> list[Change]:
        """End the block that is open, if there is one."""
        block, self._open = self._open, None
        return [] if block is None else [Change(What.CLOSED, block)]


_KINDS = {ReasoningDelta: Kind.REASONING, ContentDelta: Kind.TEXT, ToolCallDelta: Kind.CALL}


def _piece(delta: Delta) -> str:
    return delta.arguments if isinstance(delta, ToolCallDelta) else delta.text
