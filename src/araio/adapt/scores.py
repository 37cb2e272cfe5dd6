"""Scores of experts: how much a layer needs each of its experts, made of `statistics.ExpertStatistics`.

    easy       sum of c g |f|: turned the residual, by how much (EASY-EP, arXiv 2504.06792); for a domain
    reap       mean of g |f| over its tokens (REAP, Cerebras 2025); for models that shall stay general
    norm       mean of |f|, without the router's weight (MAN, arXiv 2606.15716); the same
    frequency  how often it was chosen; ESFT's share of tokens (arXiv 2407.01906), once normalised
    gate       sum of g; ESFT's mean weight, once normalised

Sums favour experts that a domain often uses, means those that matter when they are used. Every score is
divided by its layer's sum, so that layers and domains can be compared and mixed. Read `select.py` for what is
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from araio.adapt.statistics import ExpertStatistics
from araio.errors import ProfileError

__all__ = ["SCORES", "mixture", "opening_experts", "score", "super_experts"]

Float64Array: TypeAlias = npt.NDArray[np.float64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

_RAW: Mapping[str, Callable[[ExpertStatistics], Float64Array]] = {
    "easy": lambda seen: seen.turned,
    "reap": lambda seen: seen.gated / np.maximum(seen.chosen, 1.0),
    "norm": lambda seen: seen.norm / np.maximum(seen.chosen, 1.0),
    "frequency": lambda seen: seen.chosen,
    "gate": lambda seen: seen.gate,
}

SCORES = tuple(_RAW)
"""Names of the scores, the one for domains first."""

# The rule by which REAP's code finds super experts (arXiv 2507.23279).
SUPER_QUANTILE, SUPER_SHARE, SUPER_DEPTH = 0.995, 0.1, 0.75


def score(statistics: ExpertStatistics, name: str) -> Float64Array:
    """The score of every expert, (L, E), each layer's adding up to 1; all alike where nothing was seen.

    Raises:
        ProfileError: a name that is no score.
    """
    if name not in _RAW:
        raise ProfileError(f"no score {name!r}; expected one of {', '.join(SCORES)}")
    return _normalised(_RAW[name](statistics))


def mixture(scores: Sequence[Float64Array], shares: Sequence[float] | None = None) -> Float64Array:
    """Scores of several texts as one: their mean, weighted by the texts' shares if given; (L, E)."""
    weights = np.ones(len(scores)) if shares is None else np.asarray(shares, np.float64)
    return _normalised(np.tensordot(weights / weights.sum(), np.stack(scores), axes=1))


def _normalised(raw: Float64Array) -> Float64Array:
    sums = raw.sum(axis=1, keepdims=True)
    even = np.full_like(raw, 1.0 / raw.shape[1])
    return np.where(sums > 0, raw / np.where(sums > 0, sums, 1.0), even)


def super_experts(statistics: ExpertStatistics) -> BoolArray:
    """Experts (L, E) whose answers hold outliers that attention's sinks are fed by (arXiv 2507.23279).

    Their largest number is beyond the 99.5th percentile of all experts' and beyond a tenth of the largest of
    all, and they lie in the first three quarters of the layers. Three of 6,144 missing make a large model
    repeat itself, whatever the domain.
    """
    largest = statistics.largest
    threshold = max(np.quantile(largest, SUPER_QUANTILE), SUPER_SHARE * largest.max(initial=0.0))
    found: BoolArray = largest > threshold
    found[int(np.ceil(SUPER_DEPTH * len(found))) :] = False
    return found


def opening_experts(statistics: ExpertStatistics) -> BoolArray:
    """Experts (L, E) that at least half of the sequences used at their first two positions.

    What is there is not the domain's, and every later token attends to it.
    """
    opening: BoolArray = 2 * statistics.opening >= max(1, statistics.sequences)
    return opening
