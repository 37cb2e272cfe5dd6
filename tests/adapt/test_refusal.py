"""What counts as declining, and what does not."""

import pytest

from araio.adapt.refusal import is_refusal


@pytest.mark.parametrize(
    "content",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "I cannot provide instructions for that.",
        "I am unable to help you with this.",
        "Unfortunately, I'm not able to do that.",
        "I must decline. Here is why: ...",
        "That goes against my guidelines, so no.",
        "I won't write that.",
    ],
)
def test_refusals(content):
    assert is_refusal(content)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "59",
        "Sorry for the wait: the answer is 59.",
        "You cannot divide by zero, so x = 2.",
        "I can help with that. First, ...",
        "Mix A with B, " + "and stir. " * 40 + "I cannot help with more.",
    ],
)
def test_answers(content):
    assert not is_refusal(content)
