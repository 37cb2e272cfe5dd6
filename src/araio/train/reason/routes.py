"""`RouteRecorder`: which experts the engine used for every token of its requests, prompts included.

A request may find the beginning of its prompt in the engine's cache and never run it; its routes are then
those of the request that did, for they depend on nothing but these tokens. Read `engine/watch.py` for what is
seen, `replay.py` for what it is for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from araio.engine.job import Job
from araio.engine.watch import EngineStep
from araio.kernels.ops import PAGE, Int32Array

__all__ = ["RouteRecorder"]


class RouteRecorder:
    """A watcher of one engine, for a batch of requests."""

    def __init__(self) -> None:
        self._runs: dict[Job, list[Int32Array]] = {}

    def __call__(self, step: EngineStep) -> None:
        """Keep a step; see `engine.watch.Watcher`."""
        chosen = np.stack(step.experts, axis=1)  # (T, M, K)
        row = 0
        for part in step.parts:
            self._runs.setdefault(part.job, []).append(chosen[row : row + part.kept])
            row += part.tokens

    def routes(self, jobs: Sequence[Job]) -> list[Int32Array]:
        """(T, M, K) for every position that each request has run or found in the cache, from its first.

        jobs  all that ran, in the order in which they were submitted: what one finds, one before it has run
        """
        pages: dict[bytes, Int32Array] = {}
        routes = []
        for job in jobs:
            ends = range(PAGE, job.cached_tokens + 1, PAGE)
            found = [pages[job.prompt[:end].tobytes()] for end in ends]
            whole = np.concatenate([*found, *self._runs[job]])
            for end in range(PAGE, len(job.prompt) + 1, PAGE):
                pages.setdefault(job.prompt[:end].tobytes(), whole[end - PAGE : end])
            routes.append(whole)
        return routes
