"""`Rollouts`: groups of answers to problems, written by araio's own engine from the weights in training.

All answers of a step are one batch of the engine: requests enter and leave it as they end, and what prompts
of a group have in common in whole pages is computed once. Every answer is drawn at temperature 1 from a
stream of random numbers of its own, with nothing filtered, so the log-probabilities that come with it are
those of the very distribution it was drawn from. The cache holds float32: with the trainer in float32 too,
both compute the same function to rounding. Read `handover.py` for the weights, `routes.py` for the experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from araio.engine.engine import Engine
from araio.engine.job import Job
from araio.engine.request import SamplingParams
from araio.errors import TrainingError
from araio.kernels.ops import PAGE, Int32Array
from araio.meters.meter import Meter
from araio.nn.kv_cache import pages_for
from araio.nn.model import Model
from araio.tensors import Float32Array
from araio.train.reason.problems import Problem
from araio.train.reason.routes import RouteRecorder

__all__ = ["Answer", "Group", "Rollouts"]

MOST_TOGETHER = 256
"""Answers that are written at the same time; more of them wait, and less of the cache is needed."""


@dataclass(frozen=True)
class Answer:
    """One sampled answer.

    ids       of its tokens, the one that ended it included
    logprobs  (n,) float32 of each of them when it was drawn
    routes    (prompt + n - 1, M, K) int32 experts of each token that has run: all but the last one
    """

    ids: list[int]
    logprobs: Float32Array
    routes: Int32Array


@dataclass(frozen=True)
class Group:
    """All answers to one problem."""

    problem: Problem
    answers: list[Answer]


class Rollouts:
    """Asks a model many problems at once.

    model       to run; new ones come by `renew`
    max_tokens  of an answer
    ends        ids that end an answer
    meter       that the run counts its joules by
    """

    def __init__(self, model: Model, max_tokens: int, ends: Sequence[int], meter: Meter) -> None:
        self._model, self._max_tokens, self._ends, self._meter = model, max_tokens, ends, meter

    def sample(self, problems: Sequence[Problem], samples: int, rng: Random) -> list[Group]:
        """So many answers to each problem, in their order; the generator alone decides the draws.

        Raises:
            TrainingError: the model cannot answer, for its scores are no numbers.
        """
        recorder = RouteRecorder()
        engine = self._engine(problems, samples)
        engine.watch(recorder)
        # One answer to every problem first: those behind find in the cache what a prompt has left there.
        jobs = [
            engine.submit(problem.prompt, self._params(rng), self._ends)
            for _ in range(samples)
            for problem in problems
        ]
        while engine.step():
            pass
        for job in jobs:
            if job.error is not None:
                raise TrainingError(f"an answer could not be sampled: {job.error}") from job.error
        answers = [_answer(job, routes) for job, routes in zip(jobs, recorder.routes(jobs), strict=True)]
        return [Group(problem, answers[place :: len(problems)]) for place, problem in enumerate(problems)]

    def _engine(self, problems: Sequence[Problem], samples: int) -> Engine:
        """A new one: what an old one keeps of prompts belongs to other weights."""
        together = min(MOST_TOGETHER, samples * len(problems))
        longest = max(len(problem.prompt) for problem in problems)
        pages = pages_for(longest + self._max_tokens)
        return Engine(
            self._model,
            max_batch=together,
            chunk=sum(len(problem.prompt) for problem in problems) * samples,
            cache_tokens=together * pages * PAGE,
            cache_type="float32",
            speculate="off",
            meter=self._meter,
        )

    def _params(self, rng: Random) -> SamplingParams:
        seed = rng.getrandbits(63)
        return SamplingParams(temperature=1.0, seed=seed, max_tokens=self._max_tokens, logprobs=0)


def _answer(job: Job, routes: Int32Array) -> Answer:
    sampled = [token.sampled for token in job.tokens]
    logprobs = np.array([token.logprob for token in sampled], dtype=np.float32)
    return Answer([token.id for token in sampled], logprobs, routes)
