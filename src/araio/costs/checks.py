"""What every count is given, checked once: whole numbers, rates, and experts where there must be some.

A number that nothing can be counted with ends in a CostError that names it.
"""

from __future__ import annotations

import math

from araio.config import ModelConfig
from araio.errors import CostError
from araio.json_reader import shown

__all__ = ["require_at_least", "require_experts", "require_positive", "require_rate", "require_share"]


def require_at_least(least: int, **values: object) -> None:
    """Refuse what is not a whole number of at least `least`, by the name of the argument."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise CostError(f"{name} is {shown(value)}; expected a whole number of at least {least}")


def require_rate(**values: object) -> None:
    """Refuse what is not a finite number of zero or more, by the name of the argument."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise CostError(f"{name} is {shown(value)}; expected a number of zero or more")


def require_positive(**values: object) -> None:
    """Refuse what is not a finite number above zero, by the name of the argument."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise CostError(f"{name} is {shown(value)}; expected a number above zero")


def require_share(**values: object) -> None:
    """Refuse what is not from zero to one, by the name of the argument."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise CostError(f"{name} is {shown(value)}; expected a share from 0 to 1")


def require_experts(config: ModelConfig) -> None:
    """Refuse a model in which no layer routes."""
    if not config.moe_layers:
        raise CostError(
            f"no layer of this {config.model_type} config routes to experts (n_routed_experts = "
            f"{config.n_routed_experts}); ask for a mixture of experts"
        )
