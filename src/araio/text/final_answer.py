r"""`final_answer`: what an answer comes to, so that answers in other words can be counted as one.

The last `\boxed{...}` if there is one, as reasoning models are asked to write, else the whole text. Numbers
are compared as numbers: `1,000`, `1000.0` and `$1000$` are one, and so are `0.5` and `1/2`. Other texts are
alike if they are but for letter case, spaces and a full stop at the end. Units are not dropped: `17 days` is
not `17`.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["final_answer"]

_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?")
MOST_DIGITS = 1000
"""Longer numbers are texts: who writes them in two ways is not waited for."""


def final_answer(content: str) -> str:
    """What to compare of an answer's content; empty where there is none."""
    boxed = _last_boxed(content)
    text = " ".join((content if boxed is None else boxed).split()).strip("$ ").removesuffix(".").strip()
    number = text.replace("\u2212", "-")
    if len(number) > MOST_DIGITS or not _NUMBER.fullmatch(number):
        return text.casefold()
    plain = number.replace(",", "")
    if "/" in plain:
        over, under = plain.split("/")
        return text if int(under) == 0 else str(Fraction(over) / int(under))
    return str(Fraction(plain))


def _last_boxed(content: str) -> str | None:
    start = content.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for place in range(begin, len(content)):
        depth += {"{": 1, "}": -1}.get(content[place], 0)
        if depth == 0:
            return content[begin:place]
    return None
