"""`Behaviour`: what a model's answers do when only a profile's experts give them, against those of all.

A set of experts that is too small shows in answers that grow longer, repeat themselves or never end before
it shows in any average of single tokens. Both models are asked the same prompts, greedily, so differences
are taken prompt by prompt, and the interval around a difference of accuracies is that of pairs. Read
`evaluate.py` for who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.adapt.answers import Asked
from araio.adapt.refusal import is_refusal
from araio.eval.wilson import wilson_interval

__all__ = ["Behaviour", "behaviour", "is_looping", "paired_interval"]

RESAMPLES = 2000

# A loop: the same tokens, so many of them at most, at least so often, and no fewer tokens in all.
LONGEST_PERIOD, REPEATS, LEAST_TOKENS = 64, 4, 32


@dataclass(frozen=True)
class Accuracy:
    """Of n prompts whose right answers are known.

    kept, whole  right answers
    change       of the accuracy, kept minus whole; low and high are its 95 % interval
    """

    n: int
    kept: int
    whole: int
    change: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """As it stands in a profile's evaluation; intervals of the single accuracies are Wilson's."""
        return {
            "n": self.n,
            "accuracy": self.kept / self.n,
            "ci95": list(wilson_interval(self.kept, self.n)),
            "whole_accuracy": self.whole / self.n,
            "whole_ci95": list(wilson_interval(self.whole, self.n)),
            "change": self.change,
            "change_ci95": [self.low, self.high],
        }


@dataclass(frozen=True)
class Behaviour:
    """Of so many prompts; a pair of shares is the kept experts' and the whole model's.

    accuracy       over all prompts that have an answer; None where none has
    by_source      the same for each source of prompts
    length_ratio   median over prompts of how many times as long an answer is, thinking included
    thinking_ratio  of the mean tokens of thinking; None where the whole model does not think
    same           share of answers whose content is the same text
    cut_off        answers that ended at their limit
    looping        answers that end in a loop
    empty          answers without content
    refused        of prompts that a model is expected to decline, those that it did; None without any
    """

    prompts: int
    accuracy: Accuracy | None
    by_source: dict[str, Accuracy]
    length_ratio: float
    thinking_ratio: float | None
    same: float
    cut_off: tuple[float, float]
    looping: tuple[float, float]
    empty: tuple[float, float]
    refused: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """As it stands in a profile's evaluation."""
        return {
            "prompts": self.prompts,
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "by_source": {source: accuracy.to_json() for source, accuracy in self.by_source.items()},
            "length_ratio": self.length_ratio,
            "thinking_ratio": self.thinking_ratio,
            "same": self.same,
            **{
                name: {"kept": pair[0], "whole": pair[1]}
                for name, pair in (
                    ("cut_off", self.cut_off),
                    ("looping", self.looping),
                    ("empty", self.empty),
                    ("refused", self.refused),
                )
                if pair is not None
            },
        }


def behaviour(kept: Sequence[Asked], whole: Sequence[Asked], seed: int = 0) -> Behaviour:
    """Compare two models' answers to the same prompts, at least one."""
    by_source = {
        source: accuracy
        for source in dict.fromkeys(one.prompt.source for one in whole)
        if (accuracy := _accuracy(_of(source, kept), _of(source, whole), seed)) is not None
    }
    thought = mean(_thought(one) for one in whole)
    return Behaviour(
        len(whole),
        _accuracy(kept, whole, seed),
        by_source,
        median(_length(ours) / max(1, _length(theirs)) for ours, theirs in zip(kept, whole, strict=True)),
        mean(_thought(one) for one in kept) / thought if thought else None,
        mean(ours.answer.content == theirs.answer.content for ours, theirs in zip(kept, whole, strict=True)),
        (mean(not one.is_finished for one in kept), mean(not one.is_finished for one in whole)),
        (mean(map(_loops, kept)), mean(map(_loops, whole))),
        (
            mean(not one.answer.content.strip() for one in kept),
            mean(not one.answer.content.strip() for one in whole),
        ),
        _refused(kept, whole),
    )


def _refused(kept: Sequence[Asked], whole: Sequence[Asked]) -> tuple[float, float] | None:
    pairs = [
        (is_refusal(ours.answer.content), is_refusal(theirs.answer.content))
        for ours, theirs in zip(kept, whole, strict=True)
        if theirs.prompt.refuse
    ]
    return (mean(ours for ours, _ in pairs), mean(theirs for _, theirs in pairs)) if pairs else None


def is_looping(tokens: npt.NDArray[np.int64]) -> bool:
    """Whether a sequence ends in the same tokens again and again."""
    for period in range(1, LONGEST_PERIOD + 1):
        size = max(REPEATS * period, LEAST_TOKENS)
        tail = tokens[-size:]
        if len(tail) == size and (tail[period:] == tail[:-period]).all():
            return True
    return False


def paired_interval(changes: npt.NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean (n,) of changes prompt by prompt, by the bootstrap over prompts.

    Where no prompt changed there is nothing to draw from; it is then as wide as so many alike allow (Wilson).
    """
    if not changes.any():
        most = wilson_interval(0, len(changes))[1]
        return -most, most
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(changes), size=(RESAMPLES, len(changes)))
    low, high = np.quantile(changes[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _of(source: str, asked: Sequence[Asked]) -> list[Asked]:
    return [one for one in asked if one.prompt.source == source]


def _accuracy(kept: Sequence[Asked], whole: Sequence[Asked], seed: int) -> Accuracy | None:
    pairs = [
        (is_right(ours), is_right(theirs))
        for ours, theirs in zip(kept, whole, strict=True)
        if theirs.prompt.is_right("") is not None
    ]
    if not pairs:
        return None
    right = np.array(pairs, np.float64)
    changes = right[:, 0] - right[:, 1]
    ours, theirs = right.sum(axis=0)
    return Accuracy(
        len(pairs), int(ours), int(theirs), float(changes.mean()), *paired_interval(changes, seed)
    )


def is_right(one: Asked) -> bool:
    """Whether an answer is known to be right; one that was cut off is not."""
    return one.is_finished and bool(one.prompt.is_right(one.answer.content))


def _length(one: Asked) -> int:
    return len(one.ids) - one.prompt_tokens


def _thought(one: Asked) -> int:
    return one.answer.usage["completion_tokens_details"]["reasoning_tokens"]


def _loops(one: Asked) -> bool:
    return is_looping(one.ids[one.prompt_tokens :])
