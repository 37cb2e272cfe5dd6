"""Countdown: make a goal from three or four small numbers, each used once, by a search that is shown.

After Stream of Search (arXiv:2404.03683): the failed branches are written, not only the path. With three
numbers the search is complete in at most three lines: keep the largest number, list what the other two
can give and what the goal needs, and compare; then keep the next. With four, the two smallest are joined
first, in the order + - * /, and each choice opens a search over three. Intermediate values are positive
integers. A problem is its numbers and its goal. Beyond training: four numbers whose search takes longer.
Read `expressions.py` for the evaluator behind the verifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from araio.train.tasks.answers import normalize
from araio.train.tasks.base import Domain, Example, Split, draw_problem
from araio.train.tasks.expressions import read_expression

__all__ = ["Countdown"]

PHRASINGS = (
    "Use {numbers} once each to make {goal}.",
    "Make {goal} from the numbers {numbers}, using each once.",
    "How can you get {goal} with {numbers}? Use every number once.",
    "Combine {numbers} with + - * / to reach {goal}.",
)

MAX_NUMBER = 12
MAX_GOAL = 100
MAX_LINES = 7
"""Longest search in training, counted in lines; the longest of all is in `beyond`."""
MAX_LINES_BEYOND = 16


@dataclass(frozen=True)
class Value:
    """A number on the table, and how it was made from the given ones."""

    number: int
    expression: str


@dataclass(frozen=True)
class Problem:
    numbers: tuple[int, ...]
    goal: int


@dataclass(frozen=True)
class Search:
    """The written search; `expression` is None when it ended without reaching the goal."""

    lines: list[str]
    expression: str | None


class Countdown:
    """Reach a goal with all of the given numbers."""

    name: str = "countdown"
    domain: Domain = "mathematics"
    summary: str = "combine three or four numbers into a goal by visible search"

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw a goal that the written search reaches, and write the search."""
        problem = draw_problem(self.name, split, rng, draw_solvable, canonical)
        search = search_goal(problem)
        assert search.expression is not None
        numbers = list(problem.numbers)
        rng.shuffle(numbers)
        listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
        return Example(
            task=self.name,
            prompt=rng.choice(PHRASINGS).format(numbers=listed, goal=problem.goal),
            reasoning="\n".join(search.lines),
            answer=search.expression,
            difficulty=len(search.lines),
            level=f"{len(problem.numbers)} numbers",
            facts={"numbers": list(problem.numbers), "goal": problem.goal},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for any expression that uses each number once and equals the goal exactly."""
        text = normalize(answer).removesuffix(f"= {example.facts['goal']}")
        expression = read_expression(text)
        return (
            expression is not None
            and expression.value == example.facts["goal"]
            and sorted(expression.numbers) == sorted(example.facts["numbers"])
        )


def draw_solvable(rng: Random, beyond: bool) -> Problem:
    while True:
        problem = draw_from_tree(rng, 4 if beyond or rng.random() < 0.25 else 3)
        if problem is None:
            continue
        search = search_goal(problem, MAX_LINES_BEYOND if beyond else MAX_LINES)
        if search.expression is not None and (not beyond or len(search.lines) > MAX_LINES):
            return problem


def draw_from_tree(rng: Random, n_numbers: int) -> Problem | None:
    """A goal made by joining random numbers at random, so that it can certainly be reached."""
    numbers = sorted((rng.randint(1, MAX_NUMBER) for _ in range(n_numbers)), reverse=True)
    table = numbers.copy()
    while len(table) > 1:
        left, right = sorted((table.pop(rng.randrange(len(table))) for _ in range(2)), reverse=True)
        table.append(rng.choice(results(left, right))[1])
    if 1 <= table[0] <= MAX_GOAL and table[0] not in numbers:
        return Problem(tuple(numbers), table[0])
    return None


def canonical(problem: Problem) -> str:
    return f"{problem.numbers} {problem.goal}"


def results(left: int, right: int) -> list[tuple[str, int]]:
    """Operator and value of every useful way to join two numbers, left >= right > 0."""
    found = [("+", left + right)]
    if left > right:
        found.append(("-", left - right))
    found.append(("*", left * right))
    if left % right == 0 and right > 1:
        found.append(("/", left // right))
    return found


def needs(kept: int, goal: int) -> list[tuple[str, str, int]]:
    """What the other numbers must give: (how it is computed, how the kept number joins it, its value)."""
    found = []
    if goal > kept:
        found.append((f"{goal}-{kept}", "{other}+{kept}", goal - kept))
    if kept > goal:
        found.append((f"{kept}-{goal}", "{kept}-{other}", kept - goal))
    found.append((f"{goal}+{kept}", "{other}-{kept}", goal + kept))
    if kept > 1 and goal % kept == 0:
        found.append((f"{goal}/{kept}", "{other}*{kept}", goal // kept))
    return found


def search_goal(problem: Problem, max_lines: int = MAX_LINES_BEYOND) -> Search:
    values = [Value(number, str(number)) for number in problem.numbers]
    lines = [f"{' '.join(map(str, problem.numbers))}, goal {problem.goal}"]
    if len(values) == 3:
        search = search_three(values, problem.goal)
    else:
        search = search_four(values, problem.goal, max_lines)
    return Search(lines + search.lines, search.expression)


def search_four(values: list[Value], goal: int, max_lines: int) -> Search:
    *rest, left, right = values
    lines: list[str] = []
    for sign, number in results(left.number, right.number):
        joined = Value(number, f"({left.expression}{sign}{right.expression})")
        table = sorted([*rest, joined], key=lambda value: -value.number)
        numbers = " ".join(str(value.number) for value in table)
        search = search_three(table, goal)
        lines += [f"{left.number}{sign}{right.number}={number}: {numbers}", *search.lines]
        if len(lines) >= max_lines:
            break
        if search.expression is not None:
            return Search(lines, search.expression)
    return Search(lines, None)


def search_three(values: list[Value], goal: int) -> Search:
    lines: list[str] = []
    for kept in values:
        left, right = (value for value in values if value is not kept)
        given = results(left.number, right.number)
        wanted = needs(kept.number, goal)
        line = (
            f"keep {kept.number}: "
            + " ".join(f"{left.number}{sign}{right.number}={number}" for sign, number in given)
            + ", need "
            + " ".join(f"{how}={number}" for how, _, number in wanted)
        )
        for _, join, number in wanted:
            for sign, value in given:
                if value == number:
                    pair = f"({left.expression}{sign}{right.expression})"
                    expression = join.format(other=pair, kept=kept.expression)
                    return Search([*lines, f"{line}: {number} fits", expression], expression)
        lines.append(f"{line}: no")
    return Search(lines, None)
