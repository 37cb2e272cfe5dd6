"""Accuracy against what is spent on thinking: budgets of tokens, and votes.

A budget closes the thinking after so many tokens, greedily decoded. Votes are the majority of so many
samples, drawn once: that of 4 votes is the first four of those of 16, so that what is compared is the same
but for their number. Read `accuracy.py` for questions and answers, `api/votes.py` for when two answers are
one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from araio.api import Model
from araio.api.votes import MOST_VOTES, VOTING_TEMPERATURE, count_votes
from araio.engine.answer import Answer
from araio.errors import RequestError
from araio.eval.accuracy import DEFAULT_MAX_TOKENS, HeldOut, check_counts, question_of, task_names
from araio.eval.wilson import wilson_interval
from araio.train.tasks import TASKS, Example

__all__ = ["Point", "Sweep", "steps_of_sweep", "sweep"]


@dataclass(frozen=True)
class Point:
    """Accuracy of one task, or of all together ("all"), at one setting.

    budget  tokens of thinking; None where votes vary, or for no limit
    votes   1 where budgets vary
    tokens  of thinking, mean of a question: of all its samples together
    """

    task: str
    budget: int | None
    votes: int
    n: int
    correct: int
    tokens: float

    def to_dict(self) -> dict[str, Any]:
        """With Wilson's 95 % interval."""
        interval = list(wilson_interval(self.correct, self.n))
        return {**vars(self), "accuracy": self.correct / self.n, "ci95": interval}


@dataclass(frozen=True)
class Sweep:
    """What was asked and how it went: points by budget, rising and no limit last, and by votes, rising."""

    model: str
    split: HeldOut
    seed: int
    temperature: float
    seconds: float
    budgets: tuple[Point, ...]
    votes: tuple[Point, ...]

    def to_dict(self) -> dict[str, Any]:
        """The document of `araio eval --budgets ... --votes ... --json`."""
        points = {name: [one.to_dict() for one in getattr(self, name)] for name in ("budgets", "votes")}
        return {**vars(self), **points}


def steps_of_sweep(tasks: int, n: int, budgets: Sequence[int], votes: Sequence[int]) -> int:
    """How often `on_answer` is called."""
    return tasks * n * ((len(budgets) + 1 if budgets else 0) + (max(votes) if votes else 0))


def sweep(
    model: Model,
    tasks: Sequence[str] | None = None,
    n: int = 100,
    seed: int = 0,
    split: HeldOut = "test",
    *,
    budgets: Sequence[int] = (),
    votes: Sequence[int] = (),
    max_tokens: int = DEFAULT_MAX_TOKENS,
    on_answer: Callable[[], None] = lambda: None,
) -> Sweep:
    """Ask `n` questions of each task at every budget, and without one, and with every number of votes.

    max_tokens  of an answer, thinking included; a longer one counts as wrong and has no vote
    on_answer   called after each answer

    Raises:
        RequestError: an unknown task, or a number out of range.
    """
    names = task_names(tasks)
    check_counts(n=n, max_tokens=max_tokens)
    if any(budget < 0 for budget in budgets):
        raise RequestError(f"budgets are {list(budgets)}; expected 0 or more tokens each")
    if any(not 1 <= count <= MOST_VOTES for count in votes):
        raise RequestError(f"votes are {list(votes)}; expected 1 to {MOST_VOTES} each")
    begun_s = time.perf_counter()
    asker = _Asker(model, max_tokens, seed, on_answer)
    questions = {name: [question_of(name, index, seed, split) for index in range(n)] for name in names}
    by_budget: list[Point] = []
    for budget in [*sorted(set(budgets)), None] if budgets else []:
        counts = {name: [asker.within(budget, one) for one in asked] for name, asked in questions.items()}
        by_budget += _points(counts, budget, 1)
    by_votes: list[Point] = []
    if votes:
        sampled = {
            name: [asker.sampled(max(votes), one) for one in asked] for name, asked in questions.items()
        }
        for count in sorted(set(votes)):
            counts = {
                name: [
                    _voted(answers[:count], one) for answers, one in zip(each, questions[name], strict=True)
                ]
                for name, each in sampled.items()
            }
            by_votes += _points(counts, None, count)
    seconds = time.perf_counter() - begun_s
    return Sweep(model.label, split, seed, asker.temperature, seconds, tuple(by_budget), tuple(by_votes))


class _Asker:
    def __init__(self, model: Model, max_tokens: int, seed: int, on_answer: Callable[[], None]) -> None:
        self._model, self._max_tokens, self._seed, self._on_answer = model, max_tokens, seed, on_answer
        self.temperature = model.generation_defaults.get("temperature") or VOTING_TEMPERATURE

    def within(self, budget: int | None, example: Example) -> tuple[bool, int]:
        """Whether it is right, and the tokens of its thinking."""
        answer = self._model.chat(
            example.prompt,
            temperature=0,
            repetition_penalty=1,
            max_tokens=self._max_tokens,
            thinking_budget=budget,
        )
        self._on_answer()
        return _is_right(answer, example), _thought(answer)

    def sampled(self, count: int, example: Example) -> tuple[Answer, ...]:
        """So many answers."""
        return self._model.vote(
            example.prompt,
            count,
            temperature=self.temperature,
            seed=self._seed,
            max_tokens=self._max_tokens,
            on_answer=self._on_answer,
        ).candidates


def _voted(answers: Sequence[Answer], example: Example) -> tuple[bool, int]:
    return _is_right(count_votes(answers).answer, example), sum(map(_thought, answers))


def _is_right(answer: Answer, example: Example) -> bool:
    return answer.finish_reason == "stop" and TASKS[example.task].verify(example, answer.content)


def _thought(answer: Answer) -> int:
    return answer.usage["completion_tokens_details"]["reasoning_tokens"]


def _points(counts: dict[str, list[tuple[bool, int]]], budget: int | None, votes: int) -> list[Point]:
    """One for each task, and one for all where there are several."""
    every = [one for each in counts.values() for one in each]
    named = {**counts, "all": every} if len(counts) > 1 else counts
    return [
        Point(
            name,
            budget,
            votes,
            len(each),
            sum(is_right for is_right, _ in each),
            sum(tokens for _, tokens in each) / len(each),
        )
        for name, each in named.items()
    ]
