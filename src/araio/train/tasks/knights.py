"""Knights and knaves: two or three people, each says one thing, and exactly one assignment fits.

The trace supposes assignments in a fixed order (all knights first, the last person changing fastest),
copies each statement, judges it, and stops at the first contradiction; it ends at the assignment where
every statement fits its speaker. A problem is its statements without the names, so the test split asks
structures that were never trained. Beyond training: four people. Read `base.py` for the split.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

from araio.train.tasks.answers import normalize
from araio.train.tasks.base import Domain, Example, Split, draw_problem
from araio.train.tasks.words import NAMES

__all__ = ["Knights", "Statement", "consistent_assignments"]

RULE = "Knights always tell the truth and knaves always lie."
PHRASINGS = (
    RULE + " {said} Who is a knight and who is a knave?",
    "{said} Knights tell the truth, knaves lie. Who is what?",
    "On an island of knights and knaves, {said} Who is who?",
    RULE + " {said} What is each of them?",
)

Assignment = tuple[bool, ...]
"""For each person in order, whether they are a knight."""


@dataclass(frozen=True)
class Statement:
    """What is said about one or two persons, by index.

    form "is": the first is of the kind. "and": both are of their kinds. "or": at least one is. "same",
    "different": the two are of one kind, or not, and then the stated kinds do not matter.
    """

    form: str
    first: int
    second: int
    first_knight: bool = True
    second_knight: bool = True

    def holds(self, assignment: Assignment) -> bool:
        """Whether the statement is true under an assignment."""
        first, second = assignment[self.first], assignment[self.second]
        match self.form:
            case "is":
                return first == self.first_knight
            case "and":
                return first == self.first_knight and second == self.second_knight
            case "or":
                return first == self.first_knight or second == self.second_knight
            case "same":
                return first == second
        return first != second

    def spoken(self, names: list[str]) -> str:
        """The statement in words."""
        first, second = names[self.first], names[self.second]
        kind = kind_of(self.first_knight)
        if self.form == "is":
            return f"{first} is a {kind}"
        if self.form in ("same", "different"):
            return f"{first} and {second} are {'the same' if self.form == 'same' else 'different'}"
        if self.first_knight != self.second_knight:
            return f"{first} is a {kind} {self.form} {second} is a {kind_of(self.second_knight)}"
        if self.form == "and":
            return f"{first} and {second} are both {kind}s"
        return f"{first} or {second} is a {kind}"


class Knights:
    """Who tells the truth, who lies."""

    name: str = "knights"
    domain: Domain = "logic"
    summary: str = "knights and knaves, solved by supposing and refuting"

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw statements with exactly one consistent assignment and search for it aloud."""
        statements = draw_problem(self.name, split, rng, draw_statements, canonical)
        names = rng.sample(NAMES, len(statements))
        lines, assignment = search(statements, names)
        said = " ".join(
            f'{name} says: "{statement.spoken(names)}."'
            for name, statement in zip(names, statements, strict=True)
        )
        return Example(
            task=self.name,
            prompt=rng.choice(PHRASINGS).format(said=said),
            reasoning="\n".join(lines),
            answer=described(names, assignment),
            difficulty=len(statements) * 10 + len(lines),
            level=f"{len(statements)} people",
            facts={"names": names, "knights": list(assignment)},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True when every person is named once with the right kind, in any order."""
        return read_assignment(answer) == expected_assignment(example.facts)


def draw_statements(rng: Random, beyond: bool) -> tuple[Statement, ...]:
    n_people = 4 if beyond else rng.choice((2, 2, 3))
    while True:
        statements = tuple(draw_statement(rng, speaker, n_people) for speaker in range(n_people))
        if len(consistent_assignments(statements)) == 1:
            return statements


def draw_statement(rng: Random, speaker: int, n_people: int) -> Statement:
    form = rng.choice(("is", "is", "and", "or", "same", "different"))
    first, second = sorted(rng.sample(range(n_people), 2))
    if form == "is":
        other = rng.choice([person for person in range(n_people) if person != speaker])
        return Statement(form, other, other, rng.random() < 0.5)
    if form in ("same", "different"):
        return Statement(form, first, second)
    return Statement(form, first, second, rng.random() < 0.5, rng.random() < 0.5)


def canonical(statements: tuple[Statement, ...]) -> str:
    return "; ".join(statement.spoken(["A", "B", "C", "D"]) for statement in statements)


def fits(statements: tuple[Statement, ...], assignment: Assignment) -> bool:
    return all(
        statement.holds(assignment) == knight
        for statement, knight in zip(statements, assignment, strict=True)
    )


def consistent_assignments(statements: tuple[Statement, ...]) -> list[Assignment]:
    """Every assignment under which knights speak truly and knaves falsely, in the order of the search."""
    return [
        assignment
        for assignment in product((True, False), repeat=len(statements))
        if fits(statements, assignment)
    ]


def search(statements: tuple[Statement, ...], names: list[str]) -> tuple[list[str], Assignment]:
    lines = []
    for assignment in product((True, False), repeat=len(statements)):
        steps = []
        for name, statement, knight in zip(names, statements, assignment, strict=True):
            true = statement.holds(assignment)
            steps.append(
                f"{kind_of(knight)} {name} says {statement.spoken(names)}, {str(true).lower()}, "
                + ("ok" if true == knight else "no")
            )
            if true != knight:
                break
        supposed = ", ".join(
            f"{name} {kind_of(knight)}" for name, knight in zip(names, assignment, strict=True)
        )
        lines.append(f"Suppose {supposed}: {'; '.join(steps)}")
        if fits(statements, assignment):
            return [*lines, f"All fit: {described(names, assignment)}"], assignment
    raise AssertionError("a drawn problem has a solution")


def kind_of(knight: bool) -> str:
    return "knight" if knight else "knave"


def described(names: list[str], assignment: Assignment) -> str:
    return ", ".join(f"{name} is a {kind_of(knight)}" for name, knight in zip(names, assignment, strict=True))


def read_assignment(answer: str) -> dict[str, str] | None:
    """Kind by lower-case name, or None when the answer says anything else or names a person twice."""
    clauses = re.split(r", and |, | and ", normalize(answer))
    kinds = {}
    for clause in clauses:
        match = re.fullmatch(r"([a-z]+) is a (knight|knave)", clause)
        if match is None or match[1] in kinds:
            return None
        kinds[match[1]] = match[2]
    return kinds


def expected_assignment(facts: dict[str, Any]) -> dict[str, str]:
    return {
        name.lower(): kind_of(knight) for name, knight in zip(facts["names"], facts["knights"], strict=True)
    }
