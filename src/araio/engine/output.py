"""Token ids to text that may be given out: whole characters, and nothing that may be part of a stop string.

`StopStrings` works on text, not on tokens, so a stop string may begin and end inside tokens. `TextOutput`
puts it behind the tokenizer's incremental decoder, for the loop in `generate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from araio.text.tokenizer import Tokenizer

__all__ = ["StopStrings", "TextOutput"]


class StopStrings:
    """Holds back the longest tail that may still grow into a stop string."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Text to give out, and the stop string that was completed, if any; it and the rest are dropped.

        The string that is complete first wins, the longest of those that end together: so the result does
        not depend on how the text was cut into pieces.
        """
        text = self._held + text
        self._held = ""
        found = [(at + len(stop), at, stop) for stop in self._strings if (at := text.find(stop)) >= 0]
        if found:
            _, start, stop = min(found)
            return text[:start], stop
        keep = max((_overlap(text, stop) for stop in self._strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None

    def flush(self) -> str:
        """What was held back, now that nothing follows it."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of `stop` that `text` ends with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


class TextOutput:
    """The text of one request as it grows; without a tokenizer it stays empty."""

    def __init__(self, tokenizer: Tokenizer | None, stop: Sequence[str]) -> None:
        self._stream = tokenizer.stream() if tokenizer is not None else None
        self._stop = StopStrings(stop)

    def push(self, token_id: int) -> tuple[str, str | None]:
        """Text that is settled now, and the stop string that ended it, if one did."""
        return self._stop.push(self._stream.push(token_id)) if self._stream is not None else ("", None)

    def flush(self) -> tuple[str, str | None]:
        """The rest: a character that was cut short, and what might have become a stop string; or did."""
        if self._stream is None:
            return "", None
        text, stop = self._stop.push(self._stream.flush())
        return (text, stop) if stop is not None else (text + self._stop.flush(), None)
