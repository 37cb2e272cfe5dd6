"""`Curriculum`: which levels of problems are worth asking, by how often they are answered right.

Where every answer is right, or every one wrong, rewards are equal and teach nothing. So levels whose running
pass rate lies within a band are always asked when they are drawn, and others seldom: often enough to notice
when they come into the band. A level that was hardly asked yet is always asked. Read `problems.py` for who
draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

__all__ = ["Curriculum", "Tallies", "tallies_of"]

KEPT_SHARE = 0.8
"""Of what is known of a level, when more of it is seen: some five steps count."""
FEWEST_ANSWERS = 16
"""To a level before its pass rate is believed."""

Tallies: TypeAlias = dict[str, list[int]]
"""By level, how many answers were right and how many there were."""


@dataclass
class _Tally:
    right: float = 0.0
    answers: float = 0.0


class Curriculum:
    """What is known of each level.

    learnable    the band of pass rates, from and to
    other_share  how often a level outside of it is asked when it is drawn
    """

    def __init__(self, learnable: Sequence[float], other_share: float) -> None:
        self._low, self._high = learnable
        self._other_share = other_share
        self._tallies: dict[str, _Tally] = {}

    def pass_rate(self, level: str) -> float | None:
        """Running share of right answers, None while there are too few to say."""
        tally = self._tallies.get(level, _Tally())
        return tally.right / tally.answers if tally.answers >= FEWEST_ANSWERS else None

    def accepts(self, level: str, rng: Random) -> bool:
        """Whether to ask a problem of this level that was drawn."""
        rate = self.pass_rate(level)
        return rate is None or self._low <= rate <= self._high or rng.random() < self._other_share

    def observe(self, tallies: Mapping[str, Sequence[int]]) -> None:
        """Take the answers of one step."""
        for level, (right, answers) in tallies.items():
            tally = self._tallies.setdefault(level, _Tally())
            tally.right = KEPT_SHARE * tally.right + right
            tally.answers = KEPT_SHARE * tally.answers + answers


def tallies_of(answers: Iterable[tuple[str, bool]]) -> Tallies:
    """Count answers, each with its level and whether it was right."""
    tallies: Tallies = {}
    for level, is_right in answers:
        tally = tallies.setdefault(level, [0, 0])
        tally[0] += is_right
        tally[1] += 1
    return dict(sorted(tallies.items()))
