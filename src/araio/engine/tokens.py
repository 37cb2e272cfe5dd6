"""What a sampled token becomes: `Emitter` gives it out with the text it settled, and says when to stop.

Both loops use it, the naive one and the engine. Read `output.py` for the text, `generate.py` for the loop.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from araio.engine.guide import Guide
from araio.engine.output import TextOutput
from araio.engine.request import SamplingParams
from araio.engine.sampling import Sampled
from araio.kernels.ops import Int32Array
from araio.tensors import Float32Array
from araio.text.tokenizer import Tokenizer

__all__ = ["Emitter", "ExpertRoutes", "FinishReason", "GeneratedToken", "Watch"]

FinishReason: TypeAlias = Literal["stop", "length"]

Watch: TypeAlias = Literal["answer", "all"]
"""Whose experts to tell: those of each new token, or those of every position, the prompt's among them."""


class ExpertRoutes(NamedTuple):
    """The experts of the M routed layers, in order, for one position or for several.

    ids      (..., M, K) int32
    weights  (..., M, K) float32
    """

    ids: Int32Array
    weights: Float32Array


@dataclass(frozen=True)
class GeneratedToken:
    """One token and the text it settled, which may be empty, or belong in part to earlier tokens."""

    sampled: Sampled
    text: str
    finish_reason: FinishReason | None
    """None except on the last token: "stop" at a stop token or string, "length" at a limit."""
    stop_reason: str | None = None
    """The stop string that ended the text; None if something else did."""
    routes: ExpertRoutes | None = field(default=None, compare=False)
    """(M, K) of the position that the token was chosen at, the one before its own; if asked for."""

    @property
    def id(self) -> int:
        """The token's id in the vocabulary."""
        return self.sampled.id


class Emitter:
    """Takes the tokens of one request as they are sampled.

    tokenizer  turns ids into text; without it every text is empty
    stop_ids   end the text and show none
    room       tokens that may still come; the last of them carries "length" if nothing else ends it
    guide      of the request, which has seen each token before it comes here; it says which give no text
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        params: SamplingParams,
        stop_ids: Collection[int],
        room: int,
        guide: Guide | None = None,
    ) -> None:
        self.room = room
        self._output = TextOutput(tokenizer, params.stop)
        self._stop_ids = frozenset(stop_ids)
        self._guide = guide

    def emit(self, sampled: Sampled, routes: ExpertRoutes | None = None) -> GeneratedToken:
        """The next token of the answer; nothing may follow one with a finish reason."""
        self.room -= 1
        text, stop = "", None
        is_end = sampled.id in self._stop_ids
        is_silent = self._guide is not None and self._guide.is_silent
        if not (is_end or is_silent):
            text, stop = self._output.push(sampled.id)
        if stop is None and (is_end or self.room == 0):
            # What was held back comes out now, and half a character of it may complete a stop string.
            rest, stop = self._output.flush()
            text += rest
            if stop is None and not is_end:
                return GeneratedToken(sampled, text, "length", None, routes)
        reason: FinishReason | None = "stop" if is_end or stop is not None else None
        return GeneratedToken(sampled, text, reason, stop, routes)
