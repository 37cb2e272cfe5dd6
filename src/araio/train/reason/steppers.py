"""`stepper_for`: what does the steps of a stage that asks problems, by the stage's kind.

Read `reinforce.py` and `harvest.py` for the two, `train/loop.py` for who drives them.
"""

from __future__ import annotations

from typing import Protocol

from araio.train.metrics import MetricsLog
from araio.train.reason.harvest import Harvest
from araio.train.reason.reinforce import Reinforce
from araio.train.reason.reports import ReinforceReport, SampleReport
from araio.train.reason.run import Run
from araio.train.stages import ReinforceStage, SampleStage

__all__ = ["Stepper", "stepper_for"]


class Stepper(Protocol):
    """Does the steps of one stage."""

    def step(self, step: int, within: int) -> ReinforceReport | SampleReport:
        """Do step `step` of the run, number `within` of the stage, both from 0."""

    def saved(self, step: int) -> None:
        """The run's state is now that after `step` steps, and on the disk."""


def stepper_for(run: Run, stage: ReinforceStage | SampleStage, log: MetricsLog, step: int) -> Stepper:
    """Of a stage, at step `step` of the run, whose lines so far are in the log."""
    if isinstance(stage, ReinforceStage):
        return Reinforce(run, stage, log.lines())
    return Harvest(run, stage, step)
