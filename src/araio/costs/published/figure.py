"""`Figure`: one published number beside what araio computes for it, and by which convention.

A figure that is reproduced must come within its tolerance; one that is not says why. Read the modules beside
this one for the figures themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "BILLIONS",
    "BYTES",
    "COUNT",
    "DOLLARS",
    "GIGAFLOPS",
    "JOULES",
    "PERCENT",
    "TERAFLOPS",
    "TIMES",
    "Figure",
    "Topic",
    "Unit",
    "Verdict",
]

Verdict: TypeAlias = Literal["reproduced", "slip", "other convention", "not explained", "modelled", "our own"]
"""`slip`: what was printed does not follow from its own inputs. `other convention`: it does, but does not
compare with the figures beside it. `modelled`: the
published number was measured. `our own`: nothing was published, and somebody should have."""


@dataclass(frozen=True)
class Unit:
    """How a number is printed: divided by `size`, with so many decimals, and `text` behind it."""

    text: str
    size: float
    decimals: int

    def shown(self, value: float) -> str:
        return f"{value / self.size:,.{self.decimals}f}{self.text}"

    def shown_as_printed(self, value: float) -> str:
        """Without decimals that the source does not have."""
        return f"{value / self.size:,.12g}{self.text}"


COUNT = Unit("", 1, 0)
BILLIONS = Unit("B", 1e9, 3)
BYTES = Unit(" bytes", 1, 0)
GIGAFLOPS = Unit(" GFLOP", 1e9, 2)
TERAFLOPS = Unit(" TFLOP", 1e12, 2)
PERCENT = Unit(" %", 0.01, 2)
TIMES = Unit("x", 1, 3)
DOLLARS = Unit(" USD", 1, 0)
JOULES = Unit(" J", 1, 3)


@dataclass(frozen=True)
class Figure:
    """One number.

    what       it is
    computed   by araio
    published  as printed, None if it was not
    how        the formula or the convention, and where the two numbers part
    source     of the published number
    tolerance  how far apart the two may be, as a share, to count as reproduced
    """

    what: str
    computed: float
    published: float | None
    unit: Unit
    how: str
    source: str
    tolerance: float = 0.005
    verdict: Verdict = "reproduced"

    @property
    def agrees(self) -> bool:
        """Whether the two numbers are as near as the tolerance asks."""
        if self.published is None:
            return False
        return abs(self.computed / self.published - 1) <= self.tolerance

    @property
    def computed_text(self) -> str:
        return self.unit.shown(self.computed)

    @property
    def published_text(self) -> str:
        return "" if self.published is None else self.unit.shown_as_printed(self.published)


@dataclass(frozen=True)
class Topic:
    """Figures about one thing."""

    title: str
    figures: tuple[Figure, ...]
