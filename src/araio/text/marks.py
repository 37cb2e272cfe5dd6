"""Marks around control tokens that people spelled out, so that they can be told apart after a template ran.

A template returns one string in which what it wrote and what the messages held are no longer distinct. So
every control token spelled out in a message is put between two marks first, and after rendering the marks say
which ones were not the template's. Strings without such tokens pass unchanged, so templates behave as
published.

Not covered: a template that glues a control token together from a message's pieces, or one that rewrites a
message's text so that a token appears; both are the template's own doing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from araio.errors import TextError
from araio.text.tokenizer import Span

__all__ = ["Marks"]

# Code points that Unicode sets aside for a program's own use and forbids in text.
NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


@dataclass(frozen=True)
class Marks:
    """Two marks that occur in none of the texts at hand, and the tokens they go around."""

    opening: str
    closing: str
    token: re.Pattern[str]

    @classmethod
    def avoiding(cls, texts: str, tokens: Collection[str]) -> Marks:
        """Marks for `tokens` that do not occur in `texts`; raises TextError if no candidate is left."""
        free = [mark for mark in NONCHARACTERS if mark not in texts]
        if len(free) < 2:
            raise TextError("the messages hold all of Unicode's noncharacters; remove U+FDD0 to U+FDEF")
        longest_first = sorted(tokens, key=len, reverse=True)
        return cls(free[0], free[1], re.compile("|".join(map(re.escape, longest_first))))

    def mark(self, value: Any) -> Any:
        """A copy of a JSON value with the tokens in all its strings marked; keys stay as they are."""
        if isinstance(value, str):
            return self.token.sub(lambda match: self.opening + match.group() + self.closing, value)
        if isinstance(value, Mapping):
            return {key: self.mark(item) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self.mark(item) for item in value]
        return value

    def split(self, rendered: str) -> list[Span]:
        """The rendered text without marks; marked tokens are not trusted.

        A template may part a token from its marks (`content.split('</think>')`); a mark on its own vanishes,
        but still keeps what is left of it from joining what is right of it.
        """
        marked = re.compile(
            f"{self.opening}({self.token.pattern}){self.closing}|[{self.opening}{self.closing}]"
        )
        pieces = marked.split(rendered)  # text, token or None, text, token or None, ..., text
        return [
            Span(piece, is_trusted=index % 2 == 0) for index, piece in enumerate(pieces) if piece is not None
        ]
