"""`Screen`: an answer on a terminal or in a pipe; thinking dim on stderr, the answer on stdout.

Whatever a model writes is shown without control characters where a terminal would obey them. Styles are used
on a terminal only, and not with `NO_COLOR` (https://no-color.org) or `TERM=dumb`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TextIO

from araio.cli.answer_now import answer_now
from araio.cli.ctrl_c import ctrl_c
from araio.cli.printable import printable
from araio.engine.answer import Answer, ContentDelta, Event, Finish, ReasoningDelta
from araio.engine.generation import REPETITION

__all__ = ["Screen", "footer"]

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class Screen:
    """Shows the events of one answer after another."""

    def __init__(self, *, hide_thinking: bool, whole_receipt: bool = False) -> None:
        self._hide_thinking = hide_thinking
        self._whole_receipt = whole_receipt
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self._dim, self._plain = (DIM, PLAIN) if sys.stderr.isatty() and not plain else ("", "")
        self._last_thought = ""
        self._is_line_open = False  # the answer's, on stdout

    def show(self, events: Iterator[Event]) -> Answer:
        """Write every piece as it comes, then the footer; the finished answer."""
        self._last_thought = ""
        with answer_now(events):
            for event in ctrl_c.watched(events):
                match event:
                    case ReasoningDelta(text):
                        self._think(text)
                    case ContentDelta(text):
                        self._end_thinking()
                        write(sys.stdout, text)
                        self._is_line_open = not text.endswith("\n")
                    case Finish(answer):
                        self._end_thinking()
                        self.note(footer(answer, is_whole=self._whole_receipt))
                        return answer
        raise AssertionError("a stream ends with Finish")

    def show_finished(self, answer: Answer) -> None:
        """Write an answer that is there already, as `show` would have."""
        pieces: list[Event] = []
        if answer.reasoning:
            pieces.append(ReasoningDelta(answer.reasoning))
        if answer.content:
            pieces.append(ContentDelta(answer.content))
        self.show(iter([*pieces, Finish(answer)]))

    def note(self, text: str) -> None:
        """One dim line on stderr, without control characters: it may quote a template or a file name."""
        if self._is_line_open:
            write(sys.stdout, "\n")
            self._is_line_open = False
        sys.stderr.write(f"{self._dim}{printable(text)}{self._plain}\n")
        sys.stderr.flush()

    def interrupt(self, text: str) -> None:
        """Close the line that an interrupted answer left open, and note why."""
        sys.stdout.flush()
        self._is_line_open = False  # closed on stderr, so that stdout has what the model wrote and no more
        self.note(f"\n{text}")

    def _think(self, text: str) -> None:
        if not self._hide_thinking:
            # Each piece carries its own style, so that an interruption leaves the terminal clean.
            write(sys.stderr, text, self._dim, self._plain)
            self._last_thought = text

    def _end_thinking(self) -> None:
        if self._last_thought:
            write(sys.stderr, "\n" if self._last_thought.endswith("\n") else "\n\n")
            self._last_thought = ""


def write(stream: TextIO, text: str, before: str = "", after: str = "") -> None:
    """Write a piece of a model's text at once."""
    stream.write(before + (printable(text) if stream.isatty() else text) + after)
    stream.flush()


def footer(answer: Answer, *, is_whole: bool) -> str:
    """The receipt, in one line or whole; and that the answer was cut off, if it was."""
    from araio.costs.receipt_text import receipt_line, receipt_text  # not before the first token

    text = receipt_text(answer.receipt) if is_whole else receipt_line(answer.receipt)
    if answer.stop_reason == REPETITION:
        return f"{text}{chr(10) if is_whole else ' · '}ended, for it only repeated itself"
    if answer.finish_reason != "length":
        return text
    cut_off = "cut off at the token limit; raise --max-tokens, or --cache-tokens"
    return f"{text}{chr(10) if is_whole else ' · '}{cut_off}"
