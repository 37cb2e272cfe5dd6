"""`Blend`: documents of several sources, each with its share of the tokens.

Read `data.py` for the sources, `setup.py` for who blends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from random import Random

from araio.train.data import Document, Documents

__all__ = ["Blend"]


class Blend:
    """Draws from one source or another.

    parts  sources and what gives their rates, documents drawn in proportion: a share of the tokens over the
           mean length of a document. Asked when the first document is drawn: a source may not exist before
    """

    def __init__(self, parts: Sequence[tuple[Documents, Callable[[], float]]]) -> None:
        self._sources = [source for source, _ in parts]
        self._rate_of = [rate for _, rate in parts]

    @property
    def pad(self) -> int:
        return self._sources[0].pad

    @cached_property
    def rates(self) -> list[float]:
        """Of the sources, in their order."""
        return [rate() for rate in self._rate_of]

    def draw(self, rng: Random) -> Document:
        (source,) = rng.choices(self._sources, self.rates)
        return source.draw(rng)
