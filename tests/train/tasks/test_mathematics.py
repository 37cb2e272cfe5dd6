"""The mathematical families against readings of their own questions."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.train.tasks import TASKS, digits
from araio.train.tasks.base import Example
from araio.train.tasks.expressions import read_expression

SPLITS = ("train", "test", "beyond")

numbers = st.integers(-99_999, 99_999)


def value_of(text: str) -> int:
    expression = read_expression(text)
    assert expression is not None, text
    assert expression.value.denominator == 1
    return int(expression.value)


def check_columns(text: str) -> None:
    """Every column of a computation is a true fact of small numbers."""
    columns = text.split(": ")[-1].split(" -> ")[0].split(" ")
    for column in columns:
        left, middle, *total = column.split("=")
        assert value_of(left) == int(middle.split("+")[0]) if total else value_of(left) == value_of(middle)
        if total:
            assert value_of(middle) == int(total[0])
        assert all(int(number) < 100 for number in re.findall(r"\d+", column))


@given(numbers, numbers)
def test_sums_of_any_signs(left, right):
    worked = digits.add(left, right)
    assert worked.value == left + right
    assert worked.text.endswith(f" -> {left + right}")
    check_columns(worked.text)


@given(st.integers(0, 99_999), st.integers(0, 9))
def test_products(number, digit):
    worked = digits.multiply(number, digit)
    assert worked.value == number * digit
    check_columns(worked.text)


@given(numbers, st.integers(1, 9))
def test_quotients(quotient, digit):
    worked = digits.divide(quotient * digit, digit)
    assert worked.value == quotient
    for step in worked.text.split(": ")[-1].split(" -> ")[0].split(" "):
        part, result = step.split("=")
        assert int(part) == value_of(result)
        assert int(part) < 10 * digit


@pytest.mark.parametrize(
    ("worked", "text"),
    [
        (digits.add(47, 38), "47+38: 7+8=15 4+3+1=8 -> 85"),
        (digits.add(92, -38), "92-38: 12-8=4 9-3-1=5 -> 54"),
        (digits.add(12, -85), "12-85=-(85-12): 5-2=3 8-1=7 -> -73"),
        (digits.add(-5, -9), "-5-9=-(5+9): 5+9=14 -> -14"),
        (digits.multiply(47, 6), "47*6: 7*6=42 4*6=24+4=28 -> 282"),
        (digits.divide(-135, 9), "-135/9=-(135/9): 13=9*1+4 45=9*5+0 -> -15"),
    ],
)
def test_the_notation(worked, text):
    assert worked.text == text


def drawn(name: str) -> list[Example]:
    return [TASKS[name].generate(Random(seed), split) for split in SPLITS for seed in range(1_000)]


def test_chain_answers_the_expression_in_its_question():
    for example in drawn("chain"):
        expression = re.search(r"\d[\d +*-]*\d|\d", example.prompt)
        assert expression is not None
        assert str(value_of(expression[0])) == example.answer


def test_equation_solution_satisfies_its_question():
    for example in drawn("equation"):
        match = re.search(r"(\d*x [-+] \d+) = (\d*x [-+] \d+|-?\d+)", example.prompt)
        assert match is not None
        left, right = (substituted(side, example.answer) for side in match.groups())
        assert left == right


def substituted(side: str, x: str) -> int:
    return value_of(re.sub(r"\bx", "1x", side).replace("x", f"*({x})"))


def test_equation_accepts_its_solution_as_an_equation():
    example = TASKS["equation"].generate(Random(0), "train")
    assert TASKS["equation"].verify(example, f"x = {example.answer}")
    assert not TASKS["equation"].verify(example, "x =")
    assert not TASKS["equation"].verify(example, f"x = x = {example.answer}")


def test_countdown_search_tells_the_truth():
    for example in drawn("countdown"):
        for fact, value in re.findall(r"(?<![\d)])(\d+[-+*/]\d+)=(\d+)", example.reasoning):
            assert value_of(fact) == int(value)
        assert value_of(example.answer) == example.facts["goal"]


def test_countdown_lines_stay_short():
    for example in drawn("countdown"):
        n_numbers = len(example.facts["numbers"])
        assert example.difficulty <= (5 if n_numbers == 3 else 17)
        assert sorted(map(int, re.findall(r"\d+", example.prompt))) == sorted(
            [*example.facts["numbers"], example.facts["goal"]]
        )


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("(8-3)*4", True),
        ("4*(8-3)", True),
        ("4 * (8 - 3) = 20", True),
        ("8*3-4", True),
        ("(8-3)*4 = 21", False),
        ("8+3*4", True),
        ("8+3+4", False),
        ("20", False),
        ("4*5", False),
        ("(8-3)*4*1", False),
        ("(8-3)*4+3-3", False),
        ("83-4", False),
    ],
)
def test_countdown_accepts_every_right_expression(answer, right):
    goal = 20
    example = Example("countdown", "", "", "(8-3)*4", 1, "3 numbers", {"numbers": [8, 4, 3], "goal": goal})
    assert TASKS["countdown"].verify(example, answer) is right


def test_story_computes_only_with_what_is_known():
    for example in drawn("story"):
        known = set(re.findall(r"\d+", example.prompt)) | ({"2"} if "twice" in example.prompt else set())
        for line in example.reasoning.split("\n"):
            _, computed, rest = line.split(": ")
            assert set(re.findall(r"\d+", computed.split("=")[0])) <= known, example
            value = rest.split(" -> ")[1]
            assert int(value) >= 0
            assert str(value_of(computed.split("=")[0])) == value
            known.add(value)


def test_story_uses_every_number_it_states():
    for example in drawn("story"):
        stated = re.findall(r"\d+", example.prompt)
        used = re.findall(r"\d+", " ".join(line.split(": ")[1] for line in example.reasoning.split("\n")))
        assert set(stated) <= set(used)
