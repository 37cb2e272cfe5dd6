"""Implication: rules such as "All wugs are daxes", one fact about a person, and a yes / no / unknown.

The gold answer comes from a model checker that tries every membership the person could have; the trace
derives facts by forward steps, oldest fact first, rules in the order of the question, until the asked
one is decided or nothing more follows. Problems on which derivation is weaker than the checker are not
drawn. A problem is its rules, fact and query with the kinds in their order of appearance, the names of
person and kinds left out. Beyond training: longer chains. Read `base.py` for the split.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from random import Random

from araio.train.tasks.answers import same_text
from araio.train.tasks.base import Domain, Example, Split, draw_problem
from araio.train.tasks.words import KINDS, NAMES

__all__ = ["Fact", "Implication", "Problem", "Rule", "decide"]

PHRASINGS = (
    "{premises} Is {query}?",
    "{premises} Question: is {query}?",
    "Suppose that: {premises} Is {query}?",
    "{premises} Does it follow? Is {query}?",
)


@dataclass(frozen=True)
class Rule:
    """All `first` are `second`, or with negative: no `first` are `second`; kinds by index."""

    first: int
    second: int
    negative: bool


@dataclass(frozen=True)
class Fact:
    """The person is, or is not, of a kind."""

    kind: int
    holds: bool


@dataclass(frozen=True)
class Problem:
    """Rules in the order of the question, the given fact, and the kind that is asked for."""

    rules: tuple[Rule, ...]
    given: Fact
    query: int


@dataclass(frozen=True)
class Step:
    """One derived fact and the rule that gave it."""

    rule: Rule
    fact: Fact


class Implication:
    """Does it follow?"""

    name: str = "implication"
    domain: Domain = "logic"
    summary: str = "chains of all / no rules about one person: yes, no or unknown"

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw rules and a query, and derive until it is decided."""
        problem = draw_problem(self.name, split, rng, draw_consistent, canonical)
        kinds = rng.sample(KINDS, 1 + highest_kind(problem))
        person = rng.choice(NAMES)
        premises = [spoken_rule(rule, kinds) + "." for rule in problem.rules]
        given = spoken_fact(problem.given, person, kinds)
        premises.insert(rng.choice((0, len(premises))), given + ".")
        steps, answer = derive(problem)
        lines = [given]
        lines += [f"{spoken_rule(s.rule, kinds)}: {spoken_fact(s.fact, person, kinds)}" for s in steps]
        if answer == "unknown":
            lines.append("Nothing more follows")
        lines.append(f"{person} a {kinds[problem.query]}: {answer}")
        query = f"{person} a {kinds[problem.query]}"
        return Example(
            task=self.name,
            prompt=rng.choice(PHRASINGS).format(premises=" ".join(premises), query=query),
            reasoning="\n".join(lines),
            answer=answer,
            difficulty=len(steps),
            level=f"{len(steps)} steps" if len(steps) != 1 else "1 step",
            facts={"answer": answer},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for exactly the word yes, no or unknown."""
        return same_text(answer, example.facts["answer"])


def draw_consistent(rng: Random, beyond: bool) -> Problem:
    wanted = rng.choice(("yes", "no", "unknown"))
    while True:
        problem = draw_rules(rng, beyond)
        if derive(problem)[1] == wanted and decide(problem) == wanted:
            return renamed(problem)


def draw_rules(rng: Random, beyond: bool) -> Problem:
    """A chain of kinds 0, 1, ... walked forward, sometimes backward by contraposition, and a branch."""
    n_hops = rng.choice((5, 6)) if beyond else rng.choice((1, 2, 2, 3, 3, 4))
    ends_negative = rng.random() < 0.4
    rules = [Rule(hop, hop + 1, ends_negative and hop == n_hops - 1) for hop in range(n_hops)]
    n_kinds = n_hops + 1
    for _ in range(1 if beyond else rng.choice((0, 1, 1))):
        # A branch that starts anywhere: it leads away from the chain, or comes from outside of it.
        inside, outside = rng.randrange(n_kinds), n_kinds
        first, second = rng.choice(((inside, outside), (outside, inside)))
        rules.append(Rule(first, second, rng.random() < 0.3))
        n_kinds += 1
    given = Fact(0, True) if rng.random() < 0.75 else Fact(rng.randrange(n_kinds), rng.random() < 0.3)
    query = rng.choice([kind for kind in range(n_kinds) if kind != given.kind])
    rng.shuffle(rules)
    return Problem(tuple(rules), given, query)


def renamed(problem: Problem) -> Problem:
    """The same problem with kinds numbered by first appearance, so that equal structures are equal."""
    order: dict[int, int] = {}
    for rule in problem.rules:
        order.setdefault(rule.first, len(order))
        order.setdefault(rule.second, len(order))
    rules = tuple(Rule(order[rule.first], order[rule.second], rule.negative) for rule in problem.rules)
    return Problem(rules, Fact(order[problem.given.kind], problem.given.holds), order[problem.query])


def canonical(problem: Problem) -> str:
    kinds = [f"kind-{index}" for index in range(1 + highest_kind(problem))]
    rules = ", ".join(spoken_rule(rule, kinds) for rule in problem.rules)
    return f"{rules}; {spoken_fact(problem.given, 'x', kinds)}; {kinds[problem.query]}"


def highest_kind(problem: Problem) -> int:
    return max(max(rule.first, rule.second) for rule in problem.rules)


def decide(problem: Problem) -> str:
    """Yes, no or unknown, by trying every set of kinds the person may belong to.

    The rules speak about everyone, so a set is possible exactly when it breaks no rule by itself; other
    people may exist or not without changing this.
    """
    possible = {
        member[problem.query]
        for member in product((True, False), repeat=highest_kind(problem) + 1)
        if member[problem.given.kind] == problem.given.holds
        and all(not member[rule.first] or member[rule.second] != rule.negative for rule in problem.rules)
    }
    assert possible, "a drawn problem has a model"
    if len(possible) == 2:
        return "unknown"
    return "yes" if possible.pop() else "no"


def derive(problem: Problem) -> tuple[list[Step], str]:
    """Forward derivation until the query is decided; weaker than `decide` only on contradictory kinds."""
    known = [problem.given]
    steps: list[Step] = []
    for fact in known:
        for rule in problem.rules:
            follows = consequence(rule, fact)
            if follows is None or follows in known:
                continue
            known.append(follows)
            steps.append(Step(rule, follows))
            if follows.kind == problem.query:
                return steps, "yes" if follows.holds else "no"
    return steps, "unknown"


def consequence(rule: Rule, fact: Fact) -> Fact | None:
    """What one rule says about the person, given one fact; contraposition included."""
    if fact.kind == rule.first and fact.holds:
        return Fact(rule.second, not rule.negative)
    if fact.kind == rule.second and fact.holds == rule.negative:
        return Fact(rule.first, False)
    return None


def spoken_rule(rule: Rule, kinds: list[str]) -> str:
    return f"{'No' if rule.negative else 'All'} {kinds[rule.first]}s are {kinds[rule.second]}s"


def spoken_fact(fact: Fact, person: str, kinds: list[str]) -> str:
    return f"{person} is {'' if fact.holds else 'not '}a {kinds[fact.kind]}"
