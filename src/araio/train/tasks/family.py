"""Family relations: what is one person to another, from stated facts.

Kin composes: mother of a father is a grandmother, son of a brother is a nephew. The trace walks from the
first person to the second, copies one fact a step (turned round when it was said from the other side)
and composes. Siblings are full siblings. A problem is its facts and question with their names. Beyond
training: four steps. Read `base.py` for the split.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from araio.train.tasks.answers import same_text
from araio.train.tasks.base import Domain, Example, Split, draw_problem
from araio.train.tasks.words import FEMALE_NAMES, MALE_NAMES, NAMES

__all__ = ["COMPOSITION", "Family"]

PHRASINGS = (
    "{facts} What is {first} to {last}?",
    "{facts} How is {first} related to {last}?",
    "What is {first} to {last}? {facts}",
    "{facts} Which relative of {last} is {first}?",
)

# Kin without gender -> the word for a woman, the word for a man.
KIN = {
    "parent": ("mother", "father"),
    "child": ("daughter", "son"),
    "sibling": ("sister", "brother"),
    "grandparent": ("grandmother", "grandfather"),
    "grandchild": ("granddaughter", "grandson"),
    "aunt or uncle": ("aunt", "uncle"),
    "niece or nephew": ("niece", "nephew"),
    "cousin": ("cousin", "cousin"),
}
INVERSE = {"parent": "child", "child": "parent", "sibling": "sibling"}

# X is <key 0> of P and P is <key 1> of Y, then X is <value> of Y. Only what holds in every family: a
# parent of a child, say, may be oneself, so it is not here.
COMPOSITION = {
    ("parent", "parent"): "grandparent",
    ("parent", "sibling"): "parent",
    ("child", "parent"): "sibling",
    ("child", "child"): "grandchild",
    ("child", "sibling"): "niece or nephew",
    ("sibling", "parent"): "aunt or uncle",
    ("sibling", "sibling"): "sibling",
    ("sibling", "child"): "child",
    ("grandparent", "sibling"): "grandparent",
    ("aunt or uncle", "sibling"): "aunt or uncle",
    ("niece or nephew", "parent"): "cousin",
    ("niece or nephew", "child"): "grandchild",
    ("cousin", "sibling"): "cousin",
}


@dataclass(frozen=True)
class Fact:
    """`subject` is the `kin` of `other`; as it is said."""

    subject: str
    kin: str
    other: str

    def __str__(self) -> str:
        return f"{self.subject} is the {gendered(self.kin, self.subject)} of {self.other}"


@dataclass(frozen=True)
class Problem:
    """people along the path; kin of each to the next; facts as said, the last of them a distraction."""

    people: tuple[str, ...]
    kin: tuple[str, ...]
    said: tuple[Fact, ...]
    distraction: Fact | None


class Family:
    """Compose kinship along a path."""

    name: str = "family"
    domain: Domain = "logic"
    summary: str = "family relations composed from stated facts"

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw a path of relatives and compose it."""
        problem = draw_problem(self.name, split, rng, draw_path, canonical)
        facts = list(problem.said) + ([problem.distraction] if problem.distraction else [])
        rng.shuffle(facts)
        reasoning, answer = compose(problem)
        return Example(
            task=self.name,
            prompt=rng.choice(PHRASINGS).format(
                facts=" ".join(f"{fact}." for fact in facts), first=problem.people[0], last=problem.people[-1]
            ),
            reasoning=reasoning,
            answer=answer,
            difficulty=len(problem.kin),
            level=f"{len(problem.kin)} facts",
            facts={"answer": answer},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for exactly the kinship word."""
        return same_text(answer, example.facts["answer"])


def draw_path(rng: Random, beyond: bool) -> Problem:
    n_steps = 4 if beyond else rng.choice((2, 2, 3))
    kin = draw_kin(rng, n_steps)
    people = rng.sample(NAMES, n_steps + 3)
    said = [Fact(people[0], kin[0], people[1])]
    for step in range(1, n_steps):
        forward = Fact(people[step], kin[step], people[step + 1])
        backward = Fact(people[step + 1], INVERSE[kin[step]], people[step])
        said.append(forward if rng.random() < 0.6 else backward)
    distraction = None
    if rng.random() < 0.5:
        # A child of someone on the path or of a stranger opens no second way and gives no third parent.
        distraction = Fact(people[-1], "child", rng.choice((people[-2], people[1])))
    return Problem(tuple(people[: n_steps + 1]), kin, tuple(said), distraction)


def draw_kin(rng: Random, n_steps: int) -> tuple[str, ...]:
    while True:
        kin = tuple(rng.choice(("parent", "child", "sibling")) for _ in range(n_steps))
        total: str | None = kin[0]
        for step in kin[1:]:
            total = COMPOSITION.get((total, step)) if total else None
        if total:
            return kin


def canonical(problem: Problem) -> str:
    return "; ".join(map(str, problem.said))


def compose(problem: Problem) -> tuple[str, str]:
    first = problem.people[0]
    total = problem.kin[0]
    lines = [str(problem.said[0])]
    for step in range(1, len(problem.kin)):
        said, kin = problem.said[step], problem.kin[step]
        middle, other = problem.people[step], problem.people[step + 1]
        turned = "" if said.subject == middle else f", so {Fact(middle, kin, other)}"
        word = gendered(total, first)
        total = COMPOSITION[total, kin]
        lines.append(f"{said}{turned}")
        lines.append(f"{word} of {gendered(kin, middle)}: {Fact(first, total, other)}")
    answer = gendered(total, first)
    lines.append(f"{first} to {problem.people[-1]}: {answer}")
    return "\n".join(lines), answer


def gendered(kin: str, person: str) -> str:
    assert person in FEMALE_NAMES or person in MALE_NAMES
    return KIN[kin][person in MALE_NAMES]
