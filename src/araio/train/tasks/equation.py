"""Linear equations with one unknown and an integer solution of either sign.

Two forms: a*x + b = c and a*x + b = c*x + d. The number moves to the right first, then the smaller
multiple of x to the larger one, then comes one long division. A problem is its coefficients. Beyond
training: solutions of larger size. Read `digits.py` for the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from araio.train.tasks import digits
from araio.train.tasks.answers import normalize, same_integer
from araio.train.tasks.base import Domain, Example, Split, draw_problem

__all__ = ["Equation"]

PHRASINGS = (
    "Solve {} for x.",
    "Solve {}.",
    "What is x if {}?",
    "Find x: {}",
    "{}. What is x?",
)


@dataclass(frozen=True)
class Side:
    """slope * x + constant."""

    slope: int
    constant: int

    def __str__(self) -> str:
        if self.slope == 0:
            return str(self.constant)
        multiple = multiple_of_x(self.slope)
        sign = "+" if self.constant > 0 else "-"
        return f"{multiple} {sign} {abs(self.constant)}"


class Equation:
    """Solve a linear equation for x."""

    name: str = "equation"
    domain: Domain = "mathematics"
    summary: str = "linear equations in one unknown, solved step by step"

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw one equation and solve it."""
        left, right = draw_problem(self.name, split, rng, draw_sides, written)
        reasoning, solution = solve(left, right)
        return Example(
            task=self.name,
            prompt=rng.choice(PHRASINGS).format(written((left, right))),
            reasoning=reasoning,
            answer=str(solution),
            difficulty=2 if right.slope else 1,
            level="x on both sides" if right.slope else "x on one side",
            facts={"x": solution},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for the integer, bare or as `x = integer`."""
        return same_integer(normalize(answer).removeprefix("x ="), example.facts["x"])


def draw_sides(rng: Random, beyond: bool) -> tuple[Side, Side]:
    x = rng.choice((1, -1)) * rng.randint(31, 60) if beyond else rng.randint(-12, 30)
    constant = rng.choice((1, -1)) * rng.randint(1, 60)
    if rng.random() < 0.5:
        slope = rng.randint(2, 9)
        return Side(slope, constant), Side(0, slope * x + constant)
    left_slope, right_slope = rng.sample(range(1, 10), 2)
    right_constant = (left_slope - right_slope) * x + constant
    if right_constant == 0:
        return draw_sides(rng, beyond)
    return Side(left_slope, constant), Side(right_slope, right_constant)


def written(sides: tuple[Side, Side]) -> str:
    return f"{sides[0]} = {sides[1]}"


def solve(left: Side, right: Side) -> tuple[str, int]:
    # x gathers on the side that has more of it, so that its multiple stays positive.
    more, less = (left, right) if left.slope > right.slope else (right, left)
    lines = []
    slope = more.slope
    if less.slope:
        difference = digits.add(more.slope, -less.slope)
        lines.append(difference.text)
        slope = difference.value
    moved = digits.add(less.constant, -more.constant)
    lines += [moved.text, f"{multiple_of_x(slope)} = {moved.value}"]
    if slope == 1:
        return "\n".join(lines), moved.value
    quotient = digits.divide(moved.value, slope)
    lines += [quotient.text, f"x = {quotient.value}"]
    return "\n".join(lines), quotient.value


def multiple_of_x(slope: int) -> str:
    return "x" if slope == 1 else f"{slope}x"
