"""What a sampled token becomes: `Emitter` gives it out with the text it settled, and says when to stop.

Both loops use it, the naive one and the engine. Read `output.py` for the text, `generate.py` for the loop.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from araio.engine.output import TextOutput
from araio.engine.request import SamplingParams
from araio.engine.sampling import Sampled
from araio.text.tokenizer import Tokenizer

__all__ = ["Emitter", "FinishReason", "GeneratedToken"]

FinishReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True)
class GeneratedToken:
    """One token and the text it settled, which may be empty, or belong in part to earlier tokens."""

    sampled: Sampled
    text: str
    finish_reason: FinishReason | None
    """None except on the last token: "stop" at a stop token or string, "length" at a limit."""
    stop_reason: str | None = None
    """The stop string that ended the text; None if something else did."""

    @property
    def id(self) -> int:
        """The token's id in the vocabulary."""
        return self.sampled.id


class Emitter:
    """Takes the tokens of one request as they are sampled.

    tokenizer  turns ids into text; without it every text is empty
    stop_ids   end the text and show none
    room       tokens that may still come; the last of them carries "length" if nothing else ends it
    """

    def __init__(
        self, tokenizer: Tokenizer | None, params: SamplingParams, stop_ids: Collection[int], room: int
    ) -> None:
        self.room = room
        self._output = TextOutput(tokenizer, params.stop)
        self._stop_ids = frozenset(stop_ids)

    def emit(self, sampled: Sampled) -> GeneratedToken:
        """The next token of the answer; nothing may follow one with a finish reason."""
        self.room -= 1
        if sampled.id in self._stop_ids:
            return self._last(sampled, "", "stop")
        text, stop = self._output.push(sampled.id)
        if stop is not None:
            return GeneratedToken(sampled, text, "stop", stop)
        if self.room == 0:
            return self._last(sampled, text, "length")
        return GeneratedToken(sampled, text, None)

    def _last(self, sampled: Sampled, text: str, reason: FinishReason) -> GeneratedToken:
        """The token that ends the text, with what was held back; that may still complete a stop string."""
        rest, stop = self._output.flush()
        return GeneratedToken(sampled, text + rest, reason if stop is None else "stop", stop)
