"""`Guesses`: what the layers to come are expected to ask for, until they do.

A layer may be guessed at several times: from two layers away, before the layer in front has its experts, and
once more behind it. The latest guess counts; all of them are held against what the layer chooses, so that
`foresight.py` learns what each kind is worth. Read `residency.py` for what is read because of them.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from araio.weights.foresight import Foresight

__all__ = ["Guesses", "Kind"]


class Kind(NamedTuple):
    """Of a guess: for one token or several, how many layers ahead, before or after the layer's experts."""

    is_one: bool
    distance: int
    is_correction: bool


@dataclass(frozen=True)
class _Guess:
    """For a layer, by its place among those with experts; keys are best first."""

    place: int
    kind: Kind
    keys: list[int]
    made_s: float


class Guesses:
    """Those of one step."""

    def __init__(self, foresight: Foresight) -> None:
        self._foresight = foresight
        self._made: list[_Guess] = []  # the latest last

    def add(self, place: int, is_one: bool, distance: int, keys: list[int]) -> Kind:
        """Take a guess for a layer; its kind."""
        is_correction = any(made.place == place and made.kind.distance == distance for made in self._made)
        kind = Kind(is_one, distance, is_correction)
        self._made.append(_Guess(place, kind, keys, time.perf_counter()))
        return kind

    def keys(self) -> list[int]:
        """Of the latest guess for each layer to come."""
        latest = {made.place: made.keys for made in self._made}
        return list(chain.from_iterable(latest.values()))

    def judge(self, place: int, chosen: Collection[int]) -> None:
        """A layer has chosen: learn from the guesses for it, and keep those for layers behind it."""
        now_s = time.perf_counter()
        for made in self._made:
            if made.place == place:
                self._foresight.judge(made.kind, made.keys, chosen, now_s - made.made_s)
        self._made = [made for made in self._made if made.place > place]

    def clear(self) -> None:
        """Forget all: the step that they were made in is over."""
        self._made.clear()
