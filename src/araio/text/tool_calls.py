r"""`ToolCallSplitter`: a stream of text split into content and tool calls at DeepSeek's tags.

The format is that of V3 and R1: a list of calls between two control tokens, each call between two more, as in
`function SEPARATOR name\n```json\n{arguments}\n``` `. A call counts once its head has been read, up to the
line break in front of the arguments; anything else that looks like one is content, and no text is lost.
Whether arguments are valid JSON is not judged here, but a tag in one of their strings is what the string
says. Feed it what `reasoning.py` gives out as content.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from araio.text.deepseek import CALL_BEGIN, CALL_END, CALLS_BEGIN, CALLS_END, SEPARATOR

__all__ = ["ToolCall", "ToolCallDelta", "ToolCallSplitter", "new_call_id"]

# Models are not exact about white space, but they are not lavish with it either.
GAP = r"\s{0,8}"
HEAD = rf"{CALL_BEGIN}{GAP}[a-z_]{{1,16}}{GAP}{SEPARATOR}{GAP}([\w.-]{{1,64}}){GAP}```(?:json)?\n"
FIRST_HEAD = re.compile(rf"{CALLS_BEGIN}{GAP}{HEAD}")
NEXT_HEAD = re.compile(rf"{GAP}{HEAD}")
CLOSING = re.compile(rf"{GAP}{CALLS_END}")
# No head is longer, so this much text decides whether there is one.
LONGEST_HEAD = len(CALLS_BEGIN + CALL_BEGIN + SEPARATOR + "```json\n") + 16 + 64 + 5 * 8

# Any of these ends the arguments, outside of strings; all but the first are a model's slip.
ENDS = (CALL_END, CALLS_END, CALL_BEGIN)
END_OF_ARGUMENTS = re.compile("|".join(ENDS))
FENCE = re.compile(rf"{GAP}(?:```{GAP})?\Z")
STARTS_OF_ENDS = "|".join({end[:length] for end in ENDS for length in range(1, len(end))})
OUTSIDE, STRING, ESCAPE = "", '"', "\\"  # of strings, within one, behind a backslash in one
START_OF_FENCE = re.compile(rf"{GAP}(?:``?|```{GAP})?(?:{STARTS_OF_ENDS})?\Z")


@dataclass(frozen=True)
class ToolCall:
    """One whole call: `arguments` is the text the model wrote, JSON if it did well."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolCallDelta:
    """What a piece of output adds to call `index`: id and name come once, in the first delta of a call."""

    index: int
    id: str | None
    name: str | None
    arguments: str


def new_call_id() -> str:
    """An id as OpenAI's clients know them: `call_` and 24 hexadecimal digits."""
    return f"call_{secrets.token_hex(12)}"


class ToolCallSplitter:
    """Splits output that arrives in pieces cut anywhere; where it is cut changes nothing.

    Arguments are given out as they come, so a call that breaks off keeps what it has. Held back is no more
    than what may be the head of a call, or the fence behind its arguments.
    """

    def __init__(self, make_id: Callable[[], str] = new_call_id) -> None:
        self._make_id = make_id
        self._held = ""
        self._place = OUTSIDE  # of the arguments, where what is held begins
        self._take: Callable[[bool], str | ToolCallDelta | None] = self._take_content
        self._calls: list[ToolCall] = []

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls so far; the last one may still grow."""
        return tuple(self._calls)

    @property
    def complete(self) -> int:
        """How many of the calls have ended."""
        return len(self._calls) - (self._take == self._take_arguments)

    def push(self, text: str) -> list[str | ToolCallDelta]:
        """Take the next piece of output; returns, in order, content (never empty) and parts of calls."""
        self._held += text
        return self._drain(is_end=False)

    def flush(self) -> list[str | ToolCallDelta]:
        """End the output; what was held back turns out to be text, or the end of the arguments."""
        return self._drain(is_end=True)

    def _drain(self, is_end: bool) -> list[str | ToolCallDelta]:
        pieces: list[str | ToolCallDelta] = []
        while True:
            state, length = self._take, len(self._held)
            piece = state(is_end)
            if piece:
                pieces.append(piece)
            if self._take == state and len(self._held) == length:
                return pieces

    def _take_content(self, is_end: bool) -> str | None:
        start = self._held.find(CALLS_BEGIN)
        if start < 0:
            kept = 0 if is_end else _length_of_tag_start(self._held)
            return self._cut(len(self._held) - kept)
        self._take = self._take_first_head
        return self._cut(start)

    def _take_first_head(self, is_end: bool) -> str | ToolCallDelta | None:
        found = FIRST_HEAD.match(self._held)
        if found:
            return self._open(found)
        if len(self._held) < LONGEST_HEAD and not is_end:
            return None
        self._take = self._take_content
        return self._cut(len(CALLS_BEGIN))

    def _take_next_head(self, is_end: bool) -> str | ToolCallDelta | None:
        """Behind a call: another one, the end of the list, or text that does not belong there."""
        found = NEXT_HEAD.match(self._held)
        if found:
            return self._open(found)
        closing = CLOSING.match(self._held)
        if closing is None and len(self._held) < LONGEST_HEAD and not is_end:
            return None
        self._cut(closing.end() if closing else 0)
        self._take = self._take_content
        return None

    def _open(self, head: re.Match[str]) -> ToolCallDelta:
        self._cut(head.end())
        self._take, self._place = self._take_arguments, OUTSIDE
        call = ToolCall(self._make_id(), head.group(1), "")
        self._calls.append(call)
        return ToolCallDelta(len(self._calls) - 1, call.id, call.name, "")

    def _take_arguments(self, is_end: bool) -> ToolCallDelta | None:
        end = self._end_of_arguments()
        if end or is_end:
            text = self._cut(end.start() if end else len(self._held))
            self._cut(len(CALL_END) if end and end.group() == CALL_END else 0)
            self._take = self._take_next_head
            return self._grow(text[: _start(FENCE, text)])
        text = self._cut(_start(START_OF_FENCE, self._held))
        self._place = _place_behind(text, self._place)
        return self._grow(text)

    def _end_of_arguments(self) -> re.Match[str] | None:
        place, start = self._place, 0
        for found in END_OF_ARGUMENTS.finditer(self._held):
            place = _place_behind(self._held[start : found.start()], place)
            if place == OUTSIDE:
                return found
            start = found.start()
        return None

    def _grow(self, arguments: str) -> ToolCallDelta | None:
        if not arguments:
            return None
        call = self._calls[-1]
        self._calls[-1] = ToolCall(call.id, call.name, call.arguments + arguments)
        return ToolCallDelta(len(self._calls) - 1, None, None, arguments)

    def _cut(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken


def _length_of_tag_start(text: str) -> int:
    """Length of the longest end of `text` that could become the tag in front of calls."""
    longest = min(len(CALLS_BEGIN), len(text))
    return next((length for length in range(longest, 0, -1) if CALLS_BEGIN.startswith(text[-length:])), 0)


def _place_behind(text: str, place: str) -> str:
    """Where JSON stands behind a piece of it, in a string or not.

    A line break ends a string, for no valid one goes on behind it: so the line of the fence is never taken
    for a part of a string that the model did not close.
    """
    for sign in text:
        if sign == "\n":
            place = OUTSIDE
        elif place == ESCAPE:
            place = STRING
        elif sign == '"':
            place = OUTSIDE if place == STRING else STRING
        elif sign == "\\" and place == STRING:
            place = ESCAPE
    return place


def _start(ending: re.Pattern[str], text: str) -> int:
    """Where the longest end of `text` that matches begins; the pattern matches the empty end too."""
    found = ending.search(text)
    assert found
    return found.start()
