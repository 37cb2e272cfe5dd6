"""Which rows of a step belong to whom: the tokens of all its requests lie side by side.

Read `scheduler.py` for what a plan is, `engine.py` for the step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from araio.engine.scheduler import Work
from araio.engine.tokens import ExpertRoutes
from araio.nn.batch import Routes

__all__ = ["is_unwanted", "routes_of", "wanted_rows"]


def wanted_rows(plan: Sequence[Work]) -> list[int]:
    """The rows whose logits are wanted, those of one request behind those of another."""
    rows: list[int] = []
    stop = 0
    for work in plan:
        stop += work.tokens
        rows.extend(range(stop - work.wanted, stop))
    return rows


def routes_of(rows: slice, routes: Routes, top_k: int) -> ExpertRoutes:
    """What all layers chose for some rows of a step: (T, M, K)."""
    if not routes.ids:  # of a dense model
        shape = rows.stop - rows.start, 0, top_k
        return ExpertRoutes(np.zeros(shape, np.int32), np.zeros(shape, np.float32))
    return ExpertRoutes(
        np.stack([ids[rows] for ids in routes.ids], axis=1),
        np.stack([weights[rows] for weights in routes.weights], axis=1),
    )


def is_unwanted(plan: Sequence[Work]) -> bool:
    """Whether every request of a step was cancelled; asked at each layer, so mostly the first one decides."""
    return plan[0].job.is_cancelled and all(work.job.is_cancelled for work in plan)
