"""Arithmetic chains: two to four numbers of one to three digits, with + and -, sometimes a product.

Products are worked out first, then the sum from left to right, each step in written columns. A problem
is its expression. Beyond training: five terms, or four digits. Read `digits.py` for the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from araio.train.tasks import digits
from araio.train.tasks.answers import same_integer
from araio.train.tasks.base import Domain, Example, Split, draw_problem

__all__ = ["Chain"]

PHRASINGS = (
    "What is {}?",
    "Calculate {}.",
    "{} = ?",
    "Compute {}.",
    "How much is {}?",
)


@dataclass(frozen=True)
class Term:
    """A signed number, times a digit unless `factor` is 1."""

    sign: int
    number: int
    factor: int


class Chain:
    """Sums, differences and products by one digit."""

    name: str = "chain"
    domain: Domain = "mathematics"
    summary: str = "arithmetic chains worked out digit by digit"

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw one expression and work it out."""
        terms = draw_problem(self.name, split, rng, draw_terms, written)
        reasoning, value = work_out(terms)
        return Example(
            task=self.name,
            prompt=rng.choice(PHRASINGS).format(written(terms)),
            reasoning=reasoning,
            answer=str(value),
            difficulty=len(terms) + sum(term.factor > 1 for term in terms),
            level=f"{len(terms)} terms",
            facts={"value": value},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for exactly the integer."""
        return same_integer(answer, example.facts["value"])


def draw_terms(rng: Random, beyond: bool) -> list[Term]:
    n_terms = rng.choice((2, 2, 3, 3, 4))
    n_digits = rng.choice((1, 2, 2, 2, 3))
    if beyond and rng.random() < 0.5:
        n_terms = 5
    elif beyond:
        n_digits = 4
    product_at = rng.randrange(n_terms) if rng.random() < 0.25 else -1
    # One chain in eight may run below zero; a person rarely asks for it.
    may_go_negative = rng.random() < 0.125
    terms: list[Term] = []
    total = 0
    for position in range(n_terms):
        number = draw_number(rng, n_digits, exact=beyond and position == 0)
        factor = rng.randint(2, 9) if position == product_at else 1
        sign = rng.choice((1, -1)) if position > 0 else 1
        if total + sign * number * factor < 0 and not may_go_negative:
            sign = 1
        terms.append(Term(sign, number, factor))
        total += sign * number * factor
    return terms


def draw_number(rng: Random, n_digits: int, exact: bool) -> int:
    if not exact:
        n_digits = rng.randint(max(1, n_digits - 1), n_digits)
    return rng.randint(10 ** (n_digits - 1), 10**n_digits - 1)


def written(terms: list[Term]) -> str:
    parts = []
    for position, term in enumerate(terms):
        sign = "" if position == 0 else " + " if term.sign > 0 else " - "
        parts.append(f"{sign}{term.number}" + (f" * {term.factor}" if term.factor > 1 else ""))
    return "".join(parts)


def work_out(terms: list[Term]) -> tuple[str, int]:
    lines = []
    values = []
    for term in terms:
        value = term.number
        if term.factor > 1:
            product = digits.multiply(term.number, term.factor)
            lines.append(product.text)
            value = product.value
        values.append(term.sign * value)
    total = values[0]
    for value in values[1:]:
        step = digits.add(total, value)
        lines.append(step.text)
        total = step.value
    return "\n".join(lines), total
