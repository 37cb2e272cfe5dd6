"""The logical families against brute force over their own questions."""

from __future__ import annotations

import re
from itertools import pairwise, permutations, product
from random import Random

import pytest

from araio.train.tasks import TASKS, implication
from araio.train.tasks.base import Example
from araio.train.tasks.family import COMPOSITION

SPLITS = ("train", "test", "beyond")


def drawn(name: str, n: int = 1_000) -> list[Example]:
    return [TASKS[name].generate(Random(seed), split) for split in SPLITS for seed in range(n)]


def spoken_truth(statement: str, knight: dict[str, bool]) -> bool:
    """A second reading of the statements, from their English alone."""
    if match := re.fullmatch(r"(\w+) and (\w+) are both (knight|knave)s", statement):
        return all(knight[name] == (match[3] == "knight") for name in match.groups()[:2])
    if match := re.fullmatch(r"(\w+) and (\w+) are (the same|different)", statement):
        return (knight[match[1]] == knight[match[2]]) == (match[3] == "the same")
    if match := re.fullmatch(r"(\w+) or (\w+) is a (knight|knave)", statement):
        return any(knight[name] == (match[3] == "knight") for name in match.groups()[:2])
    parts = re.split(r" (and|or) ", statement)
    truths = []
    for clause in parts[::2]:
        match = re.fullmatch(r"(\w+) is a (knight|knave)", clause)
        assert match is not None, statement
        truths.append(knight[match[1]] == (match[2] == "knight"))
    return any(truths) if "or" in parts else all(truths)


def test_knights_have_exactly_one_solution():
    for example in drawn("knights"):
        said = re.findall(r'(\w+) says: "([^"]+)\."', example.prompt)
        names = [name for name, _ in said]
        solutions = []
        for kinds in product((True, False), repeat=len(names)):
            knight = dict(zip(names, kinds, strict=True))
            if all(spoken_truth(statement, knight) == knight[name] for name, statement in said):
                solutions.append(list(kinds))
        assert solutions == [example.facts["knights"]]


def test_knights_trace_judges_truly():
    for example in drawn("knights"):
        for line in example.reasoning.split("\n")[:-1]:
            supposed, steps = line.removeprefix("Suppose ").split(": ")
            knight = {pair.split()[0]: pair.split()[1] == "knight" for pair in supposed.split(", ")}
            for step in steps.split("; "):
                match = re.fullmatch(r"(knight|knave) (\w+) says (.*), (true|false), (ok|no)", step)
                assert match is not None, step
                assert knight[match[2]] == (match[1] == "knight")
                assert spoken_truth(match[3], knight) == (match[4] == "true")
                assert (match[5] == "ok") == ((match[4] == "true") == knight[match[2]])


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Bob is a knave, Ann is a knight", True),
        ("ann is a knight and bob is a knave.", True),
        ("Ann is a knight, and Bob is a knave", True),
        ("Ann is a knight", False),
        ("Ann is a knight, Bob is a knave, Ann is a knave", False),
        ("Ann is a knight, Bob is a knave, Cid is a knave", False),
        ("Ann is a knight, Bob is a knight, Bob is a knave", False),
        ("Ann is a knight or a knave, Bob is a knave", False),
        ("Ann is not a knave, Bob is a knave", False),
    ],
)
def test_knights_order_is_free_and_contradiction_is_not(answer, right):
    example = Example(
        "knights", "", "", "", 1, "2 people", {"names": ["Ann", "Bob"], "knights": [True, False]}
    )
    assert TASKS["knights"].verify(example, answer) is right


def test_implication_agrees_with_all_models_of_two_people():
    rng = Random(11)
    checked = 0
    for _ in range(600):
        problem = implication.draw_consistent(rng, False)
        n_kinds = 1 + implication.highest_kind(problem)
        if n_kinds > 4:
            continue
        checked += 1
        answers = set()
        for person, other in product(product((True, False), repeat=n_kinds), repeat=2):
            holds = all(
                not one[rule.first] or one[rule.second] != rule.negative
                for rule in problem.rules
                for one in (person, other)
            )
            if holds and person[problem.given.kind] == problem.given.holds:
                answers.add(person[problem.query])
        expected = "unknown" if len(answers) == 2 else {True: "yes", False: "no"}[answers.pop()]
        assert implication.decide(problem) == expected == implication.derive(problem)[1]
    assert checked > 200


def test_implication_question_states_the_problem_and_its_steps_follow():
    for example in drawn("implication", 300):
        rules = re.findall(r"(All|No) (\w+)s are (\w+)s\.", example.prompt)
        given = re.search(r"(\w+) is (not )?a (\w+)\.", example.prompt)
        assert given is not None
        known = {(given[3], not given[2])}
        for line in example.reasoning.split("\n"):
            step = re.fullmatch(r"(All|No) (\w+)s are (\w+)s: \w+ is (not )?a (\w+)", line)
            if step is None:
                continue
            quantifier, first, second = step.groups()[:3]
            assert (quantifier, first, second) in rules
            derived = (step[5], not step[4])
            forward = {(first, True)} <= known and derived == (second, quantifier == "All")
            backward = {(second, quantifier == "No")} <= known and derived == (first, False)
            assert forward or backward, example
            known.add(derived)
        asked = re.search(r"s \w+ a (\w+)\?", example.prompt)
        assert asked is not None
        verdicts = {kind: "yes" if holds else "no" for kind, holds in known}
        assert verdicts.get(asked[1], "unknown") == example.answer


def test_implication_answers_are_balanced():
    answers = [example.answer for example in drawn("implication")]
    assert all(answers.count(answer) > len(answers) / 5 for answer in ("yes", "no", "unknown"))


def test_order_is_the_only_row_that_fits():
    for example in drawn("order", 300):
        pairs = [
            (first, second) if word in MORE else (second, first)
            for first, word, second in re.findall(r"(\w+) is (\w+) than (\w+)\.", example.prompt)
        ]
        names = sorted({name for pair in pairs for name in pair})
        if len(names) > 5:
            continue
        rows = [
            row
            for row in permutations(names)
            if all(row.index(upper) < row.index(lower) for upper, lower in pairs)
        ]
        assert len(rows) == 1
        assert answer_from(rows[0], example.prompt) == example.answer


MORE = {"taller", "older", "faster", "richer", "stronger"}
MOST = {"tallest", "oldest", "fastest", "richest", "strongest"}


def answer_from(row: tuple[str, ...], prompt: str) -> str:
    if match := re.search(r"Is (\w+) (\w+) than (\w+)\?", prompt):
        return "yes" if (row.index(match[1]) < row.index(match[3])) == (match[2] in MORE) else "no"
    if match := re.search(r"between (\w+) and (\w+)\?", prompt):
        ends = {match[1], match[2]}
        return next(row[i] for i in range(1, len(row) - 1) if {row[i - 1], row[i + 1]} == ends)
    match = re.search(r"Who is the (?:(\w+) )?(\w+)\?", prompt)
    assert match is not None
    place = ["first", "second", "third", "fourth", "fifth", "sixth"].index(match[1] or "first")
    return row[place] if match[2] in MOST else row[-1 - place]


def test_kin_composes_as_in_a_family_of_three_generations():
    tree = FamilyTree(n_generations=3)
    seen = set()
    for first, middle, last in permutations(tree.people, 3):
        for one in tree.kin(first, middle):
            for two in tree.kin(middle, last) & {"parent", "child", "sibling"}:
                if (one, two) in COMPOSITION:
                    seen.add((one, two))
                    assert COMPOSITION[one, two] in tree.kin(first, last), (one, two)
    assert seen == set(COMPOSITION)


class FamilyTree:
    """One couple with three children, all of whom marry outside and again have three children."""

    def __init__(self, n_generations: int) -> None:
        self.parents: dict[str, set[str]] = {"a": set(), "a'": set()}
        generation = ["a"]
        for _ in range(n_generations - 1):
            following = []
            for one in generation:
                for child in (f"{one}1", f"{one}2", f"{one}3"):
                    self.parents[child] = {one, f"{one}'"}
                    self.parents[f"{child}'"] = set()
                    following.append(child)
            generation = following
        self.people = list(self.parents)

    def siblings(self, one: str) -> set[str]:
        return {other for other in self.people if other != one and self.parents[other] & self.parents[one]}

    def parents_of(self, some: set[str]) -> set[str]:
        return {parent for one in some for parent in self.parents[one]}

    def siblings_of(self, some: set[str]) -> set[str]:
        return {sibling for one in some for sibling in self.siblings(one)}

    def kin(self, first: str, second: str) -> set[str]:
        """Everything that `first` is of `second`."""
        uncles = self.siblings_of(self.parents[second])
        found = {
            "parent": first in self.parents[second],
            "child": second in self.parents[first],
            "sibling": first in self.siblings(second),
            "grandparent": first in self.parents_of(self.parents[second]),
            "grandchild": second in self.parents_of(self.parents[first]),
            "aunt or uncle": first in uncles,
            "niece or nephew": second in self.siblings_of(self.parents[first]),
            "cousin": bool(self.parents[first] & uncles),
        }
        return {kin for kin, holds in found.items() if holds}


def test_family_trace_copies_facts_of_the_question():
    for example in drawn("family"):
        facts = set(re.findall(r"\w+ is the \w+ of \w+", example.prompt))
        lines = example.reasoning.split("\n")
        copied = [line.split(", so ")[0] for line in lines[:1] + lines[1:-1:2]]
        assert set(copied) <= facts
        assert len(copied) == example.difficulty


def test_family_never_relates_a_person_to_themselves():
    for example in drawn("family"):
        for first, second in re.findall(r"(\w+) is the \w+ of (\w+)", example.reasoning):
            assert first != second
        links = re.findall(r"(\w+) is the \w+ of (\w+)", example.prompt)
        assert all(one != other for one, other in pairwise(sorted(map(sorted, links))))
