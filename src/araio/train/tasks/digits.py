"""Written arithmetic, one column at a time, the way a person does it on paper.

Every step is a fact of one or two digits, so that a very small model can compute it from what is already
on the page. A carry or a borrow is written into the next column. Refuses nothing; the families draw
numbers for which the steps exist. Read `chain.py` next.

    47+38: 7+8=15 4+3+1=8 -> 85
    92-38: 12-8=4 9-3-1=5 -> 54
    47*6: 7*6=42 4*6=24+4=28 -> 282
    135/9: 13=9*1+4 45=9*5+0 -> 15
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Worked", "add", "divide", "multiply"]


@dataclass(frozen=True)
class Worked:
    """A computation as text that ends in its value."""

    text: str
    value: int


def add(left: int, right: int) -> Worked:
    """`left + right` for any signs; a negative `right` is written as a subtraction."""
    head = f"{left}+{right}" if right >= 0 else f"{left}-{-right}"
    a, b = abs(left), abs(right)
    value = left + right
    if (left < 0) == (right < 0):
        columns, rewritten = add_columns(a, b), f"{a}+{b}"
    else:
        columns, rewritten = subtract_columns(max(a, b), min(a, b)), f"{max(a, b)}-{min(a, b)}"
    if value < 0:
        rewritten = f"-({rewritten})"
    if rewritten != head:
        head = f"{head}={rewritten}"
    return Worked(f"{head}: {columns} -> {value}", value)


def multiply(number: int, digit: int) -> Worked:
    """`number * digit`, with number >= 0 and digit from 0 to 9."""
    columns = []
    carry = 0
    for column in reversed_digits(number):
        product = column * digit
        total = product + carry
        columns.append(f"{column}*{digit}={product}" + (f"+{carry}={total}" if carry else ""))
        carry = total // 10
    return Worked(f"{number}*{digit}: {' '.join(columns)} -> {number * digit}", number * digit)


def divide(number: int, digit: int) -> Worked:
    """`number / digit` where it is exact, by long division; digit from 1 to 9, number of either sign."""
    assert number % digit == 0
    head = f"{number}/{digit}" if number >= 0 else f"{number}/{digit}=-({-number}/{digit})"
    digits = str(abs(number))
    # The first step takes two digits when one is too small, as on paper.
    taken = 2 if int(digits[0]) < digit and len(digits) > 1 else 1
    part = int(digits[:taken])
    steps = [f"{part}={digit}*{part // digit}+{part % digit}"]
    for following in digits[taken:]:
        part = part % digit * 10 + int(following)
        steps.append(f"{part}={digit}*{part // digit}+{part % digit}")
    return Worked(f"{head}: {' '.join(steps)} -> {number // digit}", number // digit)


def add_columns(a: int, b: int) -> str:
    columns = []
    carry = 0
    for x, y in paired_digits(a, b):
        total = x + y + carry
        columns.append(f"{x}+{y}" + ("+1" if carry else "") + f"={total}")
        carry = total // 10
    return " ".join(columns)


def subtract_columns(a: int, b: int) -> str:
    columns = []
    borrow = 0
    for x, y in paired_digits(a, b):
        lent = x + 10 if x < y + borrow else x
        columns.append(f"{lent}-{y}" + ("-1" if borrow else "") + f"={lent - y - borrow}")
        borrow = int(lent > x)
    return " ".join(columns)


def paired_digits(a: int, b: int) -> list[tuple[int, int]]:
    """Digits of both from the right, the shorter number padded with zeros."""
    width = max(len(str(a)), len(str(b)))
    return list(zip(reversed_digits(a, width), reversed_digits(b, width), strict=True))


def reversed_digits(number: int, width: int = 1) -> list[int]:
    return [int(character) for character in reversed(str(number).zfill(width))]
