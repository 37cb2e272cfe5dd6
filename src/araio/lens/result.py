"""`Result`: what every metric returns, frozen arrays by name that turn into plain JSON.

What is not a number, because there was nothing to count, is NaN in the arrays and null in JSON. Numbers are
rounded to six digits there: no metric of a sample is known better. Read `summary.py` for the whole document.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["LEFT_OUT", "Result", "to_json"]

LEFT_OUT = {"json": False}
"""Metadata of a field that is too large for a report: experts by experts."""

DIGITS = 6


@dataclass(frozen=True)
class Result:
    """Base of what metrics return."""

    def to_json(self) -> dict[str, Any]:
        """Every field by its name, as lists, numbers, text and null."""
        kept = (field.name for field in fields(self) if field.metadata.get("json", True))
        return {name: to_json(getattr(self, name)) for name in kept}


def to_json(value: Any) -> Any:
    """A value as JSON has it: arrays as lists, what is not finite as null."""
    if isinstance(value, Result):
        return value.to_json()
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist())
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    assert value is None or isinstance(value, bool | int | str), type(value)
    return value
