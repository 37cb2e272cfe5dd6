"""The shapes that clients send, in the one shape that formats read."""

from typing import Any

import pytest

from araio.errors import TextError
from araio.text.messages import plain_messages


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}),
        ({"role": "developer", "content": "Hi"}, {"role": "system", "content": "Hi"}),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "a\nb"},
        ),
        ({"role": "user", "content": []}, {"role": "user", "content": ""}),
        (
            {"role": "assistant", "content": None, "reasoning": "Hm"},
            {"role": "assistant", "content": "", "reasoning": "Hm", "reasoning_content": "Hm"},
        ),
        (
            {"role": "assistant", "content": "4", "reasoning_content": "Hm", "reasoning": "no"},
            {"role": "assistant", "content": "4", "reasoning_content": "Hm", "reasoning": "no"},
        ),
    ],
)
def test_shapes(message: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(message)
    assert plain_messages([message]) == [expected]
    assert repr(message) == before


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {}}, {"type": "text"}, "text", None])
def test_parts_that_are_not_text_are_refused(part: Any) -> None:
    with pytest.raises(TextError, match="part of type"):
        plain_messages([{"role": "user", "content": [part]}])
