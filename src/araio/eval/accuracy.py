"""Accuracy by task: `evaluate` asks a model n questions of each task and checks the answers.

Question i of a task depends on seed, split, task and i alone, so a larger n contains a smaller one, and two
models are asked the same. Decoding is greedy, and an answer cut off by its token limit counts as wrong. Read
`wilson.py` for the interval, `train/tasks/base.py` for questions and verifiers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias, get_args

from araio.api import Model, load
from araio.errors import RequestError
from araio.eval.wilson import wilson_interval
from araio.train.tasks import TASKS, Example

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "Graded",
    "HeldOut",
    "Question",
    "Report",
    "TaskResult",
    "check_counts",
    "evaluate",
    "question_of",
    "task_names",
]

DEFAULT_MAX_TOKENS = 2048

# How many threads the compiled kernels and the BLAS libraries use.
THREAD_VARIABLES = ("ARAIO_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

HeldOut: TypeAlias = Literal["test", "beyond", "beyond-test"]
"""The splits that may be asked; accuracy on what was trained on would say nothing."""


@dataclass(frozen=True)
class Question:
    """All that decides a question: worth 4 fields on the way to another process, and no model or text."""

    task: str
    index: int
    seed: int
    split: HeldOut


@dataclass(frozen=True)
class Graded:
    """One answered question."""

    task: str
    level: str
    difficulty: int
    is_correct: bool
    is_finished: bool
    """False if the answer was cut off at its token limit."""
    reasoning_tokens: int


@dataclass(frozen=True)
class Score:
    """Answers, counted."""

    n: int
    correct: int

    def to_dict(self) -> dict[str, Any]:
        """Share of right answers with Wilson's 95 % interval."""
        return {
            "n": self.n,
            "accuracy": self.correct / self.n,
            "ci95": list(wilson_interval(self.correct, self.n)),
        }


@dataclass(frozen=True)
class TaskResult:
    """The answers to one task, in all and by level, easiest first."""

    score: Score
    unfinished: int
    mean_reasoning_tokens: float
    levels: dict[str, Score]

    def to_dict(self) -> dict[str, Any]:
        """The entry of one task in the report's JSON."""
        return {
            **self.score.to_dict(),
            "mean_reasoning_tokens": self.mean_reasoning_tokens,
            "unfinished": self.unfinished,
            "levels": {name: score.to_dict() for name, score in self.levels.items()},
        }


@dataclass(frozen=True)
class Report:
    """What was asked and how it went."""

    model: str
    split: HeldOut
    seed: int
    max_tokens: int
    seconds: float
    tasks: dict[str, TaskResult]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `araio eval --json`."""
        return {
            "model": self.model,
            "split": self.split,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "seconds": self.seconds,
            "tasks": {name: result.to_dict() for name, result in self.tasks.items()},
        }


def evaluate(
    model: Model,
    tasks: Sequence[str] | None = None,
    n: int = 100,
    seed: int = 0,
    split: HeldOut = "test",
    *,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    workers: int = 1,
    on_graded: Callable[[Graded], None] | None = None,
) -> Report:
    """Ask `n` questions of each task and count what is right.

    tasks      names from `TASKS`; None asks all of them
    split      "test": the training ranges, problems never trained on; "beyond": just outside the ranges;
               "beyond-test": of those the ones that `araio tune` never tunes on
    workers    processes, each with its own copy of the model, loaded again by its name
    on_graded  called after each answer, in the order of the questions

    Raises:
        RequestError: an unknown task or split, or a count below 1.
    """
    names = task_names(tasks)
    if split not in get_args(HeldOut):
        raise RequestError(f"split is {split!r}; expected one of {', '.join(get_args(HeldOut))}")
    check_counts(n=n, workers=workers, max_tokens=max_tokens)
    questions = [Question(name, index, seed, split) for name in names for index in range(n)]
    graded: list[Graded] = []
    started = time.perf_counter()
    for answer in _answers(model, questions, max_tokens, workers):
        graded.append(answer)
        if on_graded is not None:
            on_graded(answer)
    seconds = time.perf_counter() - started
    results = {name: _tally([answer for answer in graded if answer.task == name]) for name in names}
    return Report(model.label, split, seed, max_tokens, seconds, results)


def check_counts(**counts: int) -> None:
    """Raises RequestError for a count below 1, by its name."""
    for field, value in counts.items():
        if value < 1:
            raise RequestError(f"{field} is {value}; expected 1 or more")


def task_names(asked: Sequence[str] | None) -> list[str]:
    """The tasks to ask, each once, in the order given; all of them for None.

    Raises:
        RequestError: a name that is no task; the message suggests the nearest and lists all.
    """
    names = list(dict.fromkeys(TASKS if asked is None else asked))
    for name in names:
        if name not in TASKS:
            close = get_close_matches(name, TASKS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise RequestError(f"no task {name!r}; {hint}known tasks: {', '.join(TASKS)}")
    if not names:
        raise RequestError(f"no task given; known tasks: {', '.join(TASKS)}")
    return names


def question_of(task: str, index: int, seed: int, split: HeldOut) -> Example:
    """Question `index` of a task; whatever else is asked, it is the same one."""
    return TASKS[task].generate(Random(f"{seed}/{split}/{task}/{index}"), split)


def _answers(model: Model, questions: Sequence[Question], max_tokens: int, workers: int) -> Iterator[Graded]:
    if workers == 1:
        for question in questions:
            yield _grade(model, question, max_tokens)
        return
    # Fresh processes rather than forked ones: a fork would inherit locks of threads that it has not.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_die_on_interrupt)
    adapter = None if model.adapter is None else model.adapter.folder
    jobs = [(model.name, model.approximate, adapter, question, max_tokens) for question in questions]
    try:
        with _one_thread_each(), pool:
            yield from pool.map(_grade_in_worker, jobs)
    except BrokenProcessPool:
        raise RequestError(
            f"a worker process died, perhaps for lack of memory; use fewer than workers = {workers}"
        ) from None


def _grade(model: Model, question: Question, max_tokens: int) -> Graded:
    task = TASKS[question.task]
    example = question_of(question.task, question.index, question.seed, question.split)
    answer = model.chat(example.prompt, temperature=0, repetition_penalty=1, max_tokens=max_tokens)
    is_finished = answer.finish_reason == "stop"
    return Graded(
        question.task,
        example.level,
        example.difficulty,
        is_finished and task.verify(example, answer.content),
        is_finished,
        answer.usage["completion_tokens_details"]["reasoning_tokens"],
    )


_load_once = cache(load)


def _grade_in_worker(job: tuple[str, str | None, Path | None, Question, int]) -> Graded:
    name, approximate, adapter, question, max_tokens = job
    return _grade(_load_once(name, approximate=approximate, adapter=adapter), question, max_tokens)


def _die_on_interrupt() -> None:
    # Ctrl-C reaches every process of the terminal; a worker has nothing to tidy up and nothing to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let child processes compute on one thread, unless the user has set a number."""
    names = [n for n in THREAD_VARIABLES if n not in os.environ]
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def _tally(answers: Sequence[Graded]) -> TaskResult:
    by_level: dict[str, list[Graded]] = {}
    for answer in sorted(answers, key=lambda answer: answer.difficulty):
        by_level.setdefault(answer.level, []).append(answer)
    return TaskResult(
        score=_score(answers),
        unfinished=sum(not answer.is_finished for answer in answers),
        mean_reasoning_tokens=sum(answer.reasoning_tokens for answer in answers) / len(answers),
        levels={level: _score(group) for level, group in by_level.items()},
    )


def _score(answers: Sequence[Graded]) -> Score:
    return Score(len(answers), sum(answer.is_correct for answer in answers))
