"""How an adapter is trained: `TuneSettings`, and `TuneReport`, what is told of each step.

Read `tune.py` for the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from araio.errors import TrainingError

__all__ = ["TuneReport", "TuneSettings"]

WARM_UP_SHARE, FINAL_SHARE = 0.05, 0.1
"""Of the steps, until the learning rate is reached; of the learning rate, at the last step."""

Dtype: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TuneSettings:
    """How to train.

    rows, length  of a batch, in conversations packed to tokens
    dtype         that is computed in; what is trained is float32
    save_every    steps after which the state is saved

    Raises:
        TrainingError: a number that is out of range.
    """

    steps: int = 200
    learning_rate: float = 1e-3
    rows: int = 4
    length: int = 512
    seed: int = 0
    dtype: Dtype = "float32"
    save_every: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "rows", "length", "save_every"):
            if not 0 < getattr(self, name) < math.inf:
                raise TrainingError(f"{name} is {getattr(self, name)}; expected a number above 0")

    def learning_rate_at(self, step: int) -> float:
        """Of step 0 to `steps - 1`: up to the learning rate in a few steps, then down by a cosine."""
        warm_up = min(1.0, (step + 1) / max(1, round(WARM_UP_SHARE * self.steps)))
        fallen = 0.5 * (1 + math.cos(math.pi * step / max(1, self.steps - 1)))
        return self.learning_rate * warm_up * (FINAL_SHARE + (1 - FINAL_SHARE) * fallen)


@dataclass(frozen=True)
class TuneReport:
    """What a step did; the loss is a mean over its labels in nats."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
