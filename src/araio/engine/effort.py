"""How long a model may think, in words: what an effort stands for, in tokens.

Read `guide.py` for what a budget does, `request.py` for what is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from araio.errors import RequestError
from araio.json_reader import shown

__all__ = ["EFFORTS", "EFFORT_BUDGETS", "Effort", "budget_of"]

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

EFFORTS: tuple[Effort, ...] = get_args(Effort)

EFFORT_BUDGETS: Mapping[str, int | None] = {
    "none": 0,
    "minimal": 256,
    "low": 1024,
    "medium": 4096,
    "high": None,
    "xhigh": None,
    "max": None,
}
"""Tokens of thinking that an effort stands for; None is no limit but that of the answer."""


def budget_of(effort: object, budget: int | None) -> int | None:
    """The tokens of thinking that a budget or else an effort allows; None sets no limit.

    Raises:
        RequestError: an effort that is none of `EFFORTS`.
    """
    if effort is not None and effort not in EFFORTS:
        raise RequestError(f"effort is {shown(effort)}; expected one of {', '.join(EFFORTS)}", param="effort")
    return budget if budget is not None or effort is None else EFFORT_BUDGETS[str(effort)]
