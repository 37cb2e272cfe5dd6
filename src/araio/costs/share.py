"""`split`: a whole number in parts that follow weights and add up to it exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

__all__ = ["split"]


def split(whole: int, weights: Sequence[int]) -> list[int]:
    """Parts of `whole`, each less than one away from its exact share; their sum is `whole`.

    Every part is what lies between two rounded-down sums of shares, so nothing is lost to rounding.

    weights  zero or more each, and not all zero
    """
    ends = [0, *accumulate(weights)]
    marks = [whole * end // ends[-1] for end in ends]
    return [after - before for before, after in pairwise(marks)]
