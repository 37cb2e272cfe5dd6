"""What the engine shows of itself: `EngineStep`, what a step ran, and `EngineState`, how things stand.

Plain values for metrics and live pages; nothing is computed for them unless somebody looks. Read `engine.py`
for where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from araio.engine.job import Job
from araio.engine.prefix import PrefixCache
from araio.engine.scheduler import Scheduler, Work
from araio.kernels.ops import Int32Array
from araio.nn.kv_cache import LatentPool
from araio.weights.counters import StreamCounters

__all__ = ["EngineState", "EngineStep", "Ran", "ran", "state_of"]


class Ran(NamedTuple):
    """One request's part of a step: tokens that ran, wrong drafts among them, and whether of its prompt."""

    job: Job
    tokens: int
    is_prompt: bool


class EngineStep(NamedTuple):
    """A step that is over.

    parts    of each request, in the order of their tokens
    experts  (T, K) ids that each routed layer of the main model chose for the tokens of all parts
    seconds  that it took, choosing tokens and drafting included
    streamed what became of experts that were asked for, since the model was loaded; None if all are in memory
    """

    parts: Sequence[Ran]
    experts: Sequence[Int32Array]
    seconds: float
    streamed: StreamCounters | None


class EngineState(NamedTuple):
    """How things stand at a moment; of two numbers, one may be a step older than the other.

    running, waiting  requests
    free_pages        of the cache, that no request holds
    prefix_queries    tokens of prompts that were looked for in the cache, since the engine began
    prefix_hits       of those, that were found
    """

    running: int
    waiting: int
    free_pages: int
    total_pages: int
    prefix_queries: int
    prefix_hits: int


def ran(plan: Sequence[Work]) -> list[Ran]:
    """What a plan will have run; asked before it does."""
    return [Ran(work.job, work.tokens, work.job.prompt_left > 0) for work in plan]


def state_of(scheduler: Scheduler, pool: LatentPool, prefix: PrefixCache) -> EngineState:
    """How things stand while a step may be running: what changes under the hand is copied first."""
    running = list(scheduler.running)
    caches = [cache for job in running if (cache := job.cache) is not None]
    held = {page for cache in caches for page in list(cache.pages)}
    return EngineState(
        running=len(running),
        waiting=len(scheduler.waiting),
        free_pages=pool.size - len(held),
        total_pages=pool.size,
        prefix_queries=prefix.queries,
        prefix_hits=prefix.hits,
    )
