"""`Run`: what the stages that ask need of the run that they belong to.

Read `train/loop.py` for the run, `reinforce.py` and `harvest.py` for the stages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from araio.meters.energy import Energy
from araio.meters.meter import Meter
from araio.text.tokenizer import Tokenizer
from araio.train.model import SparseModel

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """A run in its folder.

    steps           of the whole recipe
    meter           of the joules; `energy` gives those since the last line of the log
    move_weights    one step of the optimizers along the gradients that are there, which are gone then;
                    gives their norm
    require_finite  refuses what is no number, by its name; called before any weight has moved
    """

    model: SparseModel
    tokenizer: Tokenizer
    folder: Path
    seed: int
    steps: int
    meter: Meter
    energy: Callable[[], Energy]
    move_weights: Callable[[], float]
    require_finite: Callable[[str, float], None]
