"""What every task family shares: the example, the protocol, and the rule that splits train from test.

A family draws a problem, writes it as a question, works it out in small visible steps and knows how to
check an answer. The split is decided by a stable hash of the problem itself, never of its phrasing: a
problem that is asked in the test split is in no training stream, whatever the seeds. What lies beyond the
trained ranges is parted by the same rule, for who trains on some of it. Refuses splits that do not exist.
Read `answers.py` next, then `chain.py` as the simplest family.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, Protocol, TypeVar, get_args

from araio.errors import RequestError

__all__ = ["Domain", "Example", "Split", "Task", "draw_problem", "is_beyond", "is_held_out", "log_uniform"]

Split = Literal["train", "test", "beyond", "beyond-train", "beyond-test"]
Domain = Literal["mathematics", "logic", "language"]
Problem = TypeVar("Problem")

TEST_SHARE = 8
"""One canonical problem in this many is asked in the test split only."""


@dataclass(frozen=True)
class Example:
    """One question with its worked reasoning and its answer.

    difficulty grows with the number of steps and compares only within a task; level names the kind of problem
    within its task, such as "2 people", for results by level; facts is JSON-able and holds all that the
    task's verifier needs.
    """

    task: str
    prompt: str
    reasoning: str
    answer: str
    difficulty: int
    level: str
    facts: dict[str, Any]


class Task(Protocol):
    """A family of problems that can be generated without end and checked exactly."""

    name: str
    domain: Domain
    summary: str

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw one example; the same state of `rng` gives the same example on every machine.

        "train" and "test" share their ranges and never a problem; "beyond" lies just outside of them, and so
        do "beyond-train" and "beyond-test", which share no problem either: one is tuned on, the other asked.
        """
        ...

    def verify(self, example: Example, answer: str) -> bool:
        """True when `answer` is right and is nothing but an answer."""
        ...


def is_beyond(split: Split) -> bool:
    """Whether a split lies outside the ranges that are trained on."""
    return split.startswith("beyond")


def is_held_out(task: str, canonical: str) -> bool:
    """Whether a problem belongs to the test split: a property of the problem, stable across versions."""
    digest = hashlib.sha256(f"{task}\n{canonical}".encode()).digest()
    return digest[0] % TEST_SHARE == 0


def draw_problem(
    task: str,
    split: Split,
    rng: Random,
    draw: Callable[[Random, bool], Problem],
    canonical: Callable[[Problem], str],
) -> Problem:
    """Draw with `draw(rng, beyond)` until a problem falls into `split`."""
    if split not in get_args(Split):
        raise RequestError(f"split {split!r} is unknown; expected one of {', '.join(get_args(Split))}")
    problem = draw(rng, is_beyond(split))
    while split != "beyond" and is_held_out(task, canonical(problem)) != split.endswith("test"):
        problem = draw(rng, is_beyond(split))
    return problem


def log_uniform(rng: Random, least: int, most: int) -> int:
    """A number from `least` to `most`, each factor of two as likely as the next."""
    return round(math.exp(rng.uniform(math.log(least), math.log(most))))
