"""Which answers are one and which are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.text.final_answer import final_answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("59", " 59.\n"),
        ("1,000", "1000.0"),
        ("$59$", "59"),
        ("0.5", "1/2"),
        ("\u22125", "-5"),
        ("+7", "7"),
        ("Yes.", "yes"),
        ("Mary  and\nJohn", "mary and john"),
        (r"So the answer is \boxed{59}.", "59"),
        (r"First \boxed{1}, no: \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    ],
)
def test_the_same(one, other):
    assert final_answer(one) == final_answer(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [("59", "57"), ("17 days", "17"), ("1,00", "100"), ("yes", "no"), ("1/0", "1"), ("12", "1 2")],
)
def test_not_the_same(one, other):
    assert final_answer(one) != final_answer(other)


def test_nothing_is_nothing():
    assert final_answer(" \n") == ""
    assert final_answer(r"\boxed{never closed") == r"\boxed{never closed"
    assert final_answer("9" * 5000) == "9" * 5000


@given(st.text())
def test_any_text_has_one(text):
    assert isinstance(final_answer(text), str)
