"""A calculator for untrusted text: integers, + - * /, unary minus and parentheses, and nothing else.

Values are exact fractions kept in lowest terms by `fractions.Fraction`. Refuses, by returning None,
whatever is not such an expression: names, powers, calls, division by zero, long text, large numbers,
deep nesting. Nothing is ever evaluated as code. Read `countdown.py` next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Expression", "read_expression"]

MAX_CHARS = 120
MAX_DIGITS = 6
MAX_DEPTH = 12
TOKEN = re.compile(rf"\s*([0-9]{{1,{MAX_DIGITS}}}(?![0-9])|[-+*/()])")


@dataclass(frozen=True)
class Expression:
    """The value of an expression and the numbers written in it, in order."""

    value: Fraction
    numbers: list[int]


class Malformed(Exception):  # noqa: N818  never leaves this module
    """The text is not an expression."""


def read_expression(text: str) -> Expression | None:
    """Value and numbers of an arithmetic expression, or None when the text is anything else."""
    try:
        reader = Reader(split_tokens(text))
        value = reader.sum(0)
        if reader.position != len(reader.tokens):
            return None
    except (Malformed, ZeroDivisionError):
        return None
    return Expression(value, reader.numbers)


def split_tokens(text: str) -> list[str]:
    text = text.strip()
    if not text or len(text) > MAX_CHARS:
        raise Malformed
    tokens = []
    position = 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise Malformed
        tokens.append(match[1])
        position = match.end()
    return tokens


class Reader:
    """Recursive descent: a sum of products of atoms."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.numbers: list[int] = []

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while self.peek() in ("+", "-"):
            value = value + self.product(depth) if self.take() == "+" else value - self.product(depth)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.atom(depth)
        while self.peek() in ("*", "/"):
            value = value * self.atom(depth) if self.take() == "*" else value / self.atom(depth)
        return value

    def atom(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise Malformed
        symbol = self.take()
        if symbol == "-":
            return -self.atom(depth + 1)
        if symbol == "(":
            value = self.sum(depth + 1)
            if self.take() != ")":
                raise Malformed
            return value
        if not symbol.isdigit():
            raise Malformed
        self.numbers.append(int(symbol))
        return Fraction(int(symbol))

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        symbol = self.peek()
        self.position += 1
        return symbol
