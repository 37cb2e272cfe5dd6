from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.train.tasks.expressions import read_expression

leaves = st.integers(0, 999).map(lambda number: (str(number), Fraction(number), [number]))


def join(left, sign, right):
    values = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
    return f"({left[0]} {sign}{right[0]})", values[sign](left[1], right[1]), left[2] + right[2]


trees = st.recursive(
    leaves, lambda inner: st.builds(join, inner, st.sampled_from("+-*"), inner), max_leaves=8
).filter(lambda tree: len(tree[0]) <= 120)


@given(trees)
def test_value_and_numbers_of_generated_expressions(tree):
    text, value, numbers = tree
    expression = read_expression(text)
    assert expression is not None
    assert (expression.value, expression.numbers) == (value, numbers)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8-3-2", 3),
        ("2+3*4", 14),
        ("24/4/3", 2),
        ("7/2*4", 14),
        ("-3+5", 2),
        ("2*-(3-5)", 4),
        (" ( 8 - 3 ) * 4 ", 20),
        ("1/3", Fraction(1, 3)),
    ],
)
def test_precedence_and_exactness(text, value):
    expression = read_expression(text)
    assert expression is not None
    assert expression.value == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "()",
        "1+",
        "*3",
        "1 2",
        "(1",
        "1)",
        "2**3",
        "9**9**9",
        "7//2",
        "1e3",
        "0x10",
        "1_000",
        "2.5",
        "x",
        "abs(3)",
        "__import__('os')",
        "1,2",
        "1;2",
        "٣+1",
        "²",
        "1/0",
        "4/(2-2)",
        "1234567",
        "(" * 40 + "1" + ")" * 40,
        "-" * 60 + "1",
        "+".join("1" * 200),
    ],
)
def test_everything_else_is_refused(text):
    assert read_expression(text) is None


@given(st.text(max_size=200))
def test_no_text_raises(text):
    read_expression(text)
