"""Orderings: who is the tallest, the second, in the middle, or is one taller than another.

The premises are all neighbouring pairs, shuffled and said from either side. The trace rewrites each in
one direction, finds the one who is on no right side, and copies pair after pair into a row. Where a place is
asked the row is numbered, `2 Eva`, to be looked up; where two people are compared, it lists who is under one
of them. Every name follows a space, for at the beginning of a line it would be another token. A problem is
its premises and question with their names. Beyond training: six or seven people. Read `base.py` for the
split.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random

from araio.train.tasks.answers import same_text
from araio.train.tasks.base import Domain, Example, Split, draw_problem
from araio.train.tasks.words import NAMES, ORDINALS

__all__ = ["Order"]

SCALES = (
    ("taller", "shorter", "tallest", "shortest"),
    ("older", "younger", "oldest", "youngest"),
    ("faster", "slower", "fastest", "slowest"),
    ("richer", "poorer", "richest", "poorest"),
    ("stronger", "weaker", "strongest", "weakest"),
)
PHRASINGS = (
    "{premises} {question}",
    "{question} {premises}",
    "We know this: {premises} {question}",
)


@dataclass(frozen=True)
class Problem:
    """row: names from most to least; premises: index of the upper one, and whether it is said from above."""

    row: tuple[str, ...]
    premises: tuple[tuple[int, bool], ...]
    scale: int
    question: str
    answer: str
    closing: str


class Order:
    """Chain comparisons into a row."""

    name: str = "order"
    domain: Domain = "logic"
    summary: str = "orderings rebuilt from shuffled comparisons"

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw a row and a question about it."""
        problem = draw_problem(self.name, split, rng, draw_row, canonical)
        return Example(
            task=self.name,
            prompt=rng.choice(PHRASINGS).format(premises=spoken(problem), question=problem.question),
            reasoning=chain_up(problem),
            answer=problem.answer,
            difficulty=len(problem.row),
            level=f"{len(problem.row)} people",
            facts={"answer": problem.answer},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for exactly the name, or exactly yes or no."""
        return same_text(answer, example.facts["answer"])


def draw_row(rng: Random, beyond: bool) -> Problem:
    size = rng.choice((6, 7)) if beyond else rng.choice((3, 3, 4, 4, 5))
    row = tuple(rng.sample(NAMES, size))
    uppers = list(range(size - 1))
    rng.shuffle(uppers)
    premises = tuple((upper, rng.random() < 0.5) for upper in uppers)
    scale = rng.randrange(len(SCALES))
    question, answer, closing = draw_question(rng, row, scale)
    return Problem(row, premises, scale, question, answer, closing)


def draw_question(rng: Random, row: tuple[str, ...], scale: int) -> tuple[str, str, str]:
    """Question, answer, and what in the trace reads the answer off the row."""
    more, less, most, least = SCALES[scale]
    form = rng.choice(("most", "least", "nth", "compare", "between"))
    if form == "most":
        return f"Who is the {most}?", row[0], f"{most}: {row[0]}"
    if form == "least":
        return f"Who is the {least}?", row[-1], f"{least}: {row[-1]}"
    if form == "nth":
        place = rng.randint(1, len(row) - 2)
        ordinal = ORDINALS[place]
        return f"Who is the {ordinal} {most}?", row[place], f"{ordinal} {most}, {place + 1}: {row[place]}"
    if form == "between":
        upper = rng.randrange(len(row) - 2)
        ends = [row[upper], row[upper + 2]]
        rng.shuffle(ends)
        answer = row[upper + 1]
        return f"Who is between {ends[0]} and {ends[1]}?", answer, f"between: {answer}"
    first, second = rng.sample(range(len(row)), 2)
    asked_more = rng.random() < 0.5
    answer = "yes" if (first < second) == asked_more else "no"
    word = more if asked_more else less
    upper, lower = (first, second) if asked_more else (second, first)
    under = " ".join(row[upper + 1 :]) or "nobody"
    closing = f"asked: {row[upper]} > {row[lower]}\nunder {row[upper]}: {under}\n{word}: {answer}"
    return f"Is {row[first]} {word} than {row[second]}?", answer, closing


def spoken(problem: Problem) -> str:
    more, less, _, _ = SCALES[problem.scale]
    return " ".join(
        f"{problem.row[upper]} is {more} than {problem.row[upper + 1]}."
        if from_above
        else f"{problem.row[upper + 1]} is {less} than {problem.row[upper]}."
        for upper, from_above in problem.premises
    )


def canonical(problem: Problem) -> str:
    return f"{spoken(problem)} {problem.question}"


def chain_up(problem: Problem) -> str:
    row = problem.row
    pairs = ", ".join(f"{row[upper]} > {row[upper + 1]}" for upper, _ in problem.premises)
    lowers = " ".join(row[upper + 1] for upper, _ in problem.premises)
    is_comparison = problem.answer in ("yes", "no")
    places = " ".join(
        row if is_comparison else (f"{place} {name}" for place, name in enumerate(row, start=1))
    )
    links = ", ".join(f"{upper} > {lower}" for upper, lower in pairwise(row))
    return "\n".join((pairs, f"below: {lowers}", f"top: {row[0]}", links, f"row: {places}", problem.closing))
