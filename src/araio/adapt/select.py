"""`select`: from scores to the experts that are kept, in each layer a set that its router can choose from.

    keep 0.75       a share of each layer's experts
    coverage 0.95   in each layer as few as hold that share of the score

A router that goes by groups needs enough in every group, for any of them may win; what it needs at least is
kept, whatever the scores say. With equal groups every layer keeps as many of each group as every other, which
is what a smaller checkpoint can be made of. Refuses what cannot be met. Read `fit.py` for the whole way to a
profile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from araio.adapt.scores import BoolArray, Float64Array
from araio.config import ModelConfig
from araio.errors import ProfileError
from araio.expert_profile.group_rule import least_per_group

__all__ = ["Target", "select", "smallest_covering"]

# Of sums that are meant to be whole numbers, or the whole of a score.
TINY = 1e-9


@dataclass(frozen=True)
class Target:
    """How much is to be kept: one of the two.

    keep      share of a layer's experts, rounded up to whole experts of each group
    coverage  share of a layer's score

    Raises:
        ProfileError: both or neither, or a share that is not above 0 and at most 1.
    """

    keep: float | None = None
    coverage: float | None = None

    def __post_init__(self) -> None:
        if (self.keep is None) == (self.coverage is None):
            raise ProfileError("say how much is to be kept by one of keep and coverage, as in keep = 0.75")
        for name, share in (("keep", self.keep), ("coverage", self.coverage)):
            if share is not None and not 0 < share <= 1:
                raise ProfileError(f"{name} is {share}; expected a share above 0 and at most 1")


def select(
    scores: Float64Array,
    layers: Sequence[int],
    config: ModelConfig,
    target: Target,
    protected: BoolArray | None = None,
    *,
    equal_groups: bool = False,
) -> dict[int, tuple[int, ...]]:
    """The experts to keep, ascending, by layer.

    scores        (L, E), each layer's adding up to 1
    layers        numbers of the L layers, for whoever reads the result or an error
    protected     (L, E) kept whatever their score
    equal_groups  as many of every group, and so of every layer; else as many as a router needs of each group,
                  and the best of the layer beyond that

    Raises:
        ProfileError: `keep` leaves a router too few, or has no room for what is protected; it names the layer
            and the least that works.
    """
    forced = np.zeros(scores.shape, bool) if protected is None else protected
    if equal_groups:
        counts = _equal_counts(scores, layers, config, target, forced)
        picked: Iterator[BoolArray] = (
            _best_of_groups(row, must, counts, config) for row, must in zip(scores, forced, strict=True)
        )
    else:
        picked = _freely(scores, layers, config, target, forced)
    return {
        layer: tuple(int(expert) for expert in np.flatnonzero(chosen))
        for layer, chosen in zip(layers, picked, strict=True)
    }


def smallest_covering(scores: Float64Array, share: float, chosen: BoolArray | None = None) -> BoolArray:
    """The smallest set (E,) that holds `share` of the scores (E,): those in `chosen`, and the best others."""
    kept = np.zeros(len(scores), bool) if chosen is None else chosen.copy()
    others = _ranked(scores, kept)[int(kept.sum()) :]
    held = scores[kept].sum() + np.concatenate([[0.0], np.cumsum(scores[others])])
    enough = held >= share * scores.sum() * (1 - TINY)
    kept[others[: int(np.argmax(enough)) if enough.any() else len(others)]] = True
    return kept


def _ranked(scores: Float64Array, first: BoolArray) -> npt.NDArray[np.int64]:
    """Ids (E,), those in `first` before others and the best before the rest; ties by id."""
    return np.lexsort((np.arange(len(scores)), -scores, ~first))


def _least(config: ModelConfig) -> int:
    """How many experts of each group are kept whatever their scores."""
    return math.ceil(least_per_group(config) * config.choice_groups / config.n_group)


# ---------------------------------------------------------------------- equal groups


def _equal_counts(
    scores: Float64Array, layers: Sequence[int], config: ModelConfig, target: Target, forced: BoolArray
) -> int:
    """How many of each group are kept in every layer."""
    size, least = config.n_routed_experts // config.n_group, _least(config)
    most_forced, layer, group = _most_forced(forced, layers, config)
    if target.keep is not None:
        count = math.ceil(target.keep * size - TINY)
        if count < least:
            raise ProfileError(
                f"keep = {target.keep:g} leaves {count} of {size} experts in each group, in layer "
                f"{layers[0]} as in all, and the router needs {least} to choose {config.num_experts_per_tok} "
                f"whichever groups win; keep at least {least / size:g}"
            )
        if count < most_forced:
            raise ProfileError(
                f"keep = {target.keep:g} leaves {count} of {size} experts in each group, but layer {layer} "
                f"has {most_forced} in group {group} that are protected; keep at least "
                f"{most_forced / size:g}, or protect fewer"
            )
        return count
    assert target.coverage is not None
    count = max(least, most_forced)
    while count < size and not all(
        scores[place][_best_of_groups(scores[place], forced[place], count, config)].sum()
        >= target.coverage - TINY
        for place in range(len(scores))
    ):
        count += 1
    return count


def _most_forced(forced: BoolArray, layers: Sequence[int], config: ModelConfig) -> tuple[int, int, int]:
    """The most protected experts of any group, and whose layer and group that is."""
    counts = forced.reshape(len(forced), config.n_group, -1).sum(axis=2)
    place, group = np.unravel_index(int(counts.argmax()), counts.shape)
    return int(counts.max()), layers[int(place)], int(group)


def _best_of_groups(scores: Float64Array, forced: BoolArray, count: int, config: ModelConfig) -> BoolArray:
    """So many of each group: what is forced, then the best."""
    kept = np.zeros(len(scores), bool)
    size = len(scores) // config.n_group
    for start in range(0, len(scores), size):
        group = slice(start, start + size)
        kept[start + _ranked(scores[group], forced[group])[:count]] = True
    return kept


# ---------------------------------------------------------------------- any numbers


def _freely(
    scores: Float64Array, layers: Sequence[int], config: ModelConfig, target: Target, forced: BoolArray
) -> Iterator[BoolArray]:
    """What each layer's router needs, what is forced, and then the best of all groups."""
    least = _least(config)
    for layer, row, must in zip(layers, scores, forced, strict=True):
        needed = _best_of_groups(row, must, least, config) | must
        if target.coverage is not None:
            yield smallest_covering(row, target.coverage, needed)
            continue
        assert target.keep is not None
        count = math.ceil(target.keep * len(row) - TINY)
        if count < needed.sum():
            raise ProfileError(
                f"keep = {target.keep:g} leaves {count} of {len(row)} experts in layer {layer}, whose router "
                f"needs {least} of each group, and with what is protected {needed.sum()}; keep at least "
                f"{needed.sum() / len(row):g}"
            )
        kept = np.zeros(len(row), bool)
        kept[_ranked(row, needed)[:count]] = True
        yield kept
