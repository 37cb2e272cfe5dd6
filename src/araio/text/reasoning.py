r"""`ReasoningSplitter`: a stream of text split into reasoning and answer at the think tags.

The format is DeepSeek-R1's: `<think>\n{reasoning}\n</think>\n\n{answer}`, where the chat template may already
have written `<think>\n`, so that the model's output starts inside. The newlines that belong to the format
are removed; every other character comes out once, in order. Read `engine/generate.py` next for what feeds it.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

__all__ = ["ReasoningSplitter", "Split"]

OPEN = "<think>"
CLOSE = "</think>"


class Split(NamedTuple):
    """What a piece of output adds to the reasoning and to the answer; either may be empty."""

    reasoning: str
    content: str


class _State(Enum):
    UNDECIDED = auto()  # nothing yet tells whether the output opens with <think>
    OPENED = auto()  # just behind <think>; one newline belongs to the tag
    REASONING = auto()
    CLOSED = auto()  # just behind </think>; blank lines belong to the tag
    CONTENT = auto()


class ReasoningSplitter:
    """Splits output that arrives in pieces cut anywhere, holding back no more than the start of a tag.

    Without `</think>` everything is reasoning; only the first `</think>` counts. Output that does not start
    in reasoning may open it with `<think>` as its very first characters, otherwise all of it is the answer.

    is_continued  the reasoning that it starts in has begun before, so that no newline belongs to the tag
    """

    def __init__(self, starts_in_reasoning: bool, *, is_continued: bool = False) -> None:
        self._state = _State.UNDECIDED
        if starts_in_reasoning:
            self._state = _State.REASONING if is_continued else _State.OPENED
        self._held = ""

    @property
    def is_reasoning(self) -> bool:
        """Whether what comes next is reasoning, as far as the output so far tells."""
        return self._state in (_State.OPENED, _State.REASONING)

    @property
    def may_open(self) -> bool:
        """Whether the output so far, none or the start of `<think>`, may still open with it."""
        return self._state is _State.UNDECIDED

    def push(self, text: str) -> Split:
        """Take the next piece of output."""
        self._held += text
        reasoning = ""
        if self._state is _State.UNDECIDED:
            self._decide()
        if self._state is _State.OPENED and self._held:
            self._held = self._held.removeprefix("\n")
            self._state = _State.REASONING
        if self._state is _State.REASONING:
            reasoning = self._take_reasoning()
        if self._state is _State.CLOSED:
            self._held = self._held.lstrip("\n")
            if self._held:
                self._state = _State.CONTENT
        if self._state is _State.CONTENT:
            return Split(reasoning, self._take(len(self._held)))
        return Split(reasoning, "")

    def flush(self) -> Split:
        """End the output; what was held back as the possible start of a tag turns out to be text."""
        held = self._take(len(self._held))
        return Split(held, "") if self._state is _State.REASONING else Split("", held)

    def _decide(self) -> None:
        if self._held.startswith(OPEN):
            self._take(len(OPEN))
            self._state = _State.OPENED
        elif not OPEN.startswith(self._held):
            self._state = _State.CONTENT

    def _take_reasoning(self) -> str:
        end = self._held.find(CLOSE)
        if end < 0:
            return self._take(len(self._held) - _length_of_tag_start(self._held))
        reasoning = self._take(end)
        self._take(len(CLOSE))
        self._state = _State.CLOSED
        return reasoning.removesuffix("\n")

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken


def _length_of_tag_start(text: str) -> int:
    """Length of the longest end of `text` that could become `</think>` or the newline in front of it."""
    longest = len(CLOSE) + 1
    for length in range(min(longest, len(text)), 0, -1):
        end = text[-length:]
        if CLOSE.startswith(end) or ("\n" + CLOSE).startswith(end):
            return length
    return 0
