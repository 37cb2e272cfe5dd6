"""The splitter against its definition on whole texts, over every way to cut them."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from araio.text.reasoning import ReasoningSplitter, Split

outputs = st.lists(
    st.sampled_from(["\n", "\n\n", "<think>", "</think>", "<", "</", "</thin", "think>", "a", "é", " "]),
    max_size=10,
).map("".join)


def split_whole(text: str, starts_in_reasoning: bool) -> Split:
    """What the splitter must give for a whole output."""
    if not starts_in_reasoning:
        if not text.startswith("<think>"):
            return Split("", text)
        text = text.removeprefix("<think>")
    reasoning, close, content = text.removeprefix("\n").partition("</think>")
    return Split(reasoning.removesuffix("\n") if close else reasoning, content.lstrip("\n"))


def split_pieces(pieces: list[str], starts_in_reasoning: bool) -> Split:
    splitter = ReasoningSplitter(starts_in_reasoning)
    splits = [splitter.push(piece) for piece in pieces] + [splitter.flush()]
    return Split("".join(split.reasoning for split in splits), "".join(split.content for split in splits))


@given(text=outputs, starts=st.booleans(), cuts=st.lists(st.integers(0, 40), max_size=8))
def test_cuts_change_nothing(text: str, starts: bool, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert split_pieces(pieces, starts) == split_whole(text, starts)


@given(text=outputs, starts=st.booleans())
@example("\n\n\n</think>\n\n\n</think>", True)
@example("<think>\n</think", False)
def test_characters_one_by_one_change_nothing(text: str, starts: bool) -> None:
    assert split_pieces(list(text), starts) == split_whole(text, starts)


@given(text=outputs, starts=st.booleans())
def test_only_the_first_tags_and_newlines_disappear(text: str, starts: bool) -> None:
    split = split_pieces([text], starts)
    kept = split.reasoning + split.content
    visible = text.replace("\n", "")
    expected = [visible, visible.replace("</think>", "", 1)]
    expected += [candidate.removeprefix("<think>") for candidate in expected]
    assert kept.replace("\n", "") in expected


def test_reasoning_that_is_continued_keeps_its_first_newline() -> None:
    for text in ("\n\nso 4\n</think>\n\n4", "so 4\n</think>4"):
        for pieces in ([text], list(text)):
            splitter = ReasoningSplitter(True, is_continued=True)
            splits = [splitter.push(piece) for piece in pieces] + [splitter.flush()]
            assert "".join(split.reasoning for split in splits) == text.partition("\n</think>")[0]
            assert "".join(split.content for split in splits) == "4"


@pytest.mark.parametrize(
    ("text", "starts", "reasoning", "content"),
    [
        ("I add.\n</think>\n\n4<end>", True, "I add.", "4<end>"),
        ("<think>\nI add.\n</think>\n\n4", False, "I add.", "4"),
        ("\n</think>\n\n4", True, "", "4"),
        ("still thinking\n", True, "still thinking\n", ""),
        ("a</think>b</think>c", True, "a", "b</think>c"),
        ("a<think>b", True, "a<think>b", ""),
        ("plain answer</think>", False, "", "plain answer</think>"),
        ("\n\nplain answer", False, "", "\n\nplain answer"),
        ("a </thinking> b", True, "a </thinking> b", ""),
        ("a\n\n</think>b", True, "a\n", "b"),
        ("a</think>\n\n", True, "a", ""),
        ("", True, "", ""),
        ("", False, "", ""),
    ],
)
def test_examples(text: str, starts: bool, reasoning: str, content: str) -> None:
    assert split_pieces([text], starts) == (reasoning, content)


def test_text_that_cannot_become_a_tag_is_not_held_back() -> None:
    splitter = ReasoningSplitter(starts_in_reasoning=True)
    assert splitter.push("x < y </b> ") == Split("x < y </b> ", "")
    assert splitter.push("so\n</th") == Split("so", "")
    assert splitter.push("us") == Split("\n</thus", "")
    assert splitter.push("</think>\nyes\n") == Split("", "yes\n")
    assert splitter.push("</think>") == Split("", "</think>")


def test_whether_thinking_may_still_open():
    splitter = ReasoningSplitter(starts_in_reasoning=False)
    for text, may_open in (("", True), ("<thi", True), ("nk>", False), ("a", False)):
        splitter.push(text)
        assert splitter.may_open is may_open
    assert not ReasoningSplitter(starts_in_reasoning=True).may_open
