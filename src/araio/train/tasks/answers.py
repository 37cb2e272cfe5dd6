"""Exact comparison of answers: harmless differences of form pass, everything else fails.

Harmless: surrounding whitespace, one trailing period, letter case. Refuses whatever is longer than an
answer can be, so that a stuffed answer costs nothing to reject. Read any family next.
"""

from __future__ import annotations

import re

__all__ = ["normalize", "same_integer", "same_text"]

MAX_ANSWER_CHARS = 200
INTEGER = re.compile(r"-?[0-9]{1,12}")


def normalize(answer: str) -> str:
    """Lower case, single spaces, no trailing period; an answer that is too long becomes empty."""
    if len(answer) > MAX_ANSWER_CHARS:
        return ""
    return " ".join(answer.lower().split()).removesuffix(".").rstrip()


def same_text(answer: str, gold: str) -> bool:
    """Whether both are the same words."""
    return normalize(answer) == normalize(gold) != ""


def same_integer(answer: str, gold: int) -> bool:
    """Whether `answer` is exactly one integer, and this one."""
    text = normalize(answer)
    return INTEGER.fullmatch(text) is not None and int(text) == gold
