"""An approximation in a line, as `araio run` prints it: what it costs, measured if that is not known yet."""

from __future__ import annotations

from collections.abc import Callable

from araio.api import Model
from araio.eval.approximation import approximation_cost

__all__ = ["approximation_text"]


def approximation_text(model: Model, asked: str, note: Callable[[str], None]) -> str:
    """What the approximation that was asked for costs this model.

    note  shows a line while it is measured
    """
    if model.approximate is None:
        return f"approximate ({asked}): every expert is in memory, so answers are exact"
    return approximation_cost(
        model, lambda: note(f"approximate ({asked}): measuring what it costs, once")
    ).text
