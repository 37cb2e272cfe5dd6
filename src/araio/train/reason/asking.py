"""`Asker`: problems are drawn, answered by a model and judged; what reinforcing and sampling both begin with.

Read `problems.py`, `rollout.py` and `rewards.py` for the three parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from araio.meters.meter import Meter
from araio.nn.model import Model
from araio.train.reason.curriculum import Curriculum, Tallies, tallies_of
from araio.train.reason.problems import Problem, Problems
from araio.train.reason.rewards import Rewards, Verdict, VerifierError
from araio.train.reason.rollout import Answer, Rollouts

__all__ = ["Asked", "Asker", "Judged", "JudgedGroup"]


@dataclass(frozen=True)
class Judged:
    """An answer and what it is worth."""

    answer: Answer
    verdict: Verdict


@dataclass(frozen=True)
class JudgedGroup:
    """The answers to one problem; those that could not be judged are missing."""

    problem: Problem
    answers: list[Judged]

    @property
    def rewards(self) -> list[float]:
        return [judged.verdict.reward for judged in self.answers]

    @property
    def has_signal(self) -> bool:
        """Whether some answer was worth more than another: equal rewards teach nothing."""
        return len(self.answers) > 1 and max(self.rewards) - min(self.rewards) > 1e-8

    @property
    def is_solved(self) -> bool:
        return any(judged.verdict.is_right for judged in self.answers)


@dataclass(frozen=True)
class Asked:
    """All that was asked in a step.

    faults  what was wrong with verifiers, one line for each answer that they left unjudged
    """

    groups: list[JudgedGroup]
    faults: list[str]

    @classmethod
    def joined(cls, parts: Iterable[Asked]) -> Asked:
        """Several as one."""
        whole = list(parts)
        return cls(
            [group for part in whole for group in part.groups],
            [fault for part in whole for fault in part.faults],
        )

    @property
    def answers(self) -> list[Judged]:
        """All that were judged."""
        return [judged for group in self.groups for judged in group.answers]

    @property
    def tokens(self) -> int:
        """That were drawn for answers that were judged."""
        return sum(len(judged.answer.ids) for judged in self.answers)

    @property
    def tallies(self) -> Tallies:
        """By level, right answers and all."""
        return tallies_of(
            (group.problem.level, judged.verdict.is_right)
            for group in self.groups
            for judged in group.answers
        )

    @property
    def notes(self) -> list[str]:
        """What a person should know."""
        if not self.faults:
            return []
        return [f"skipped {len(self.faults)} answers that could not be judged: {self.faults[0]}"]


@dataclass(frozen=True)
class Asker:
    """Asks a model problems of a stage.

    samples  answers to each problem
    meter    that the run counts its joules by
    """

    problems: Problems
    rewards: Rewards
    samples: int
    meter: Meter

    def ask(self, model: Model, count: int, rng: Random, curriculum: Curriculum | None = None) -> Asked:
        """So many new problems; the generator, the weights and the curriculum decide everything.

        Raises:
            RecipeError: a family's questions leave no room for an answer.
            TrainingError: the model cannot answer.
        """
        problems = self.problems.draw(rng, count, curriculum)
        rollouts = Rollouts(model, self.rewards.max_tokens, [self.rewards.encoder.eos], self.meter)
        faults: list[str] = []
        groups = [
            JudgedGroup(group.problem, self._judged(group.problem, group.answers, faults))
            for group in rollouts.sample(problems, self.samples, rng)
        ]
        return Asked(groups, faults)

    def _judged(self, problem: Problem, answers: Sequence[Answer], faults: list[str]) -> list[Judged]:
        judged = []
        for answer in answers:
            try:
                judged.append(Judged(answer, self.rewards.judge(problem, answer.ids)))
            except VerifierError as fault:
                faults.append(str(fault))
        return judged
