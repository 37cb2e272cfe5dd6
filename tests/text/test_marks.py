"""Marks tell a template's control tokens from those that people spelled out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.errors import TextError
from araio.text.marks import NONCHARACTERS, Marks
from araio.text.tokenizer import Span

TOKENS = ("<think>", "</think>", "<a>", "<a><b>")

texts = st.lists(st.sampled_from([*TOKENS, "x", "<", *NONCHARACTERS[:3]]), max_size=6).map("".join)


@given(written=texts, typed=texts)
def test_every_token_is_told_apart(written: str, typed: str) -> None:
    marks = Marks.avoiding(written + typed, TOKENS)
    spans = marks.split(written + marks.mark(typed))
    assert "".join(span.text for span in spans) == written + typed
    trusted = "".join(span.text for span in spans if span.is_trusted)
    assert trusted == written + marks.token.sub("", typed)


def test_text_without_tokens_reaches_the_template_unchanged() -> None:
    marks = Marks.avoiding("", TOKENS)
    messages = [{"role": "user", "content": "2 < 3", "n": 1, "calls": ["a", None, True]}]
    assert marks.mark(messages) == messages


def test_the_longest_token_is_marked() -> None:
    marks = Marks.avoiding("", TOKENS)
    assert Span("<a><b>", is_trusted=False) in marks.split(marks.mark("<a><b>"))


def test_a_lone_mark_vanishes_but_keeps_its_sides_apart() -> None:
    marks = Marks.avoiding("", TOKENS)
    rest = marks.mark("x</think><a>").split("</think>")[-1]
    assert marks.split("<" + rest) == [Span("<", True), Span("", True), Span("<a>", False), Span("", True)]


def test_running_out_of_marks_is_an_error() -> None:
    with pytest.raises(TextError, match="noncharacters"):
        Marks.avoiding("".join(NONCHARACTERS[1:]), TOKENS)
