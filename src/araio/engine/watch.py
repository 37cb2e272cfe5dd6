"""What the engine shows of itself: `EngineStep`, what a step ran, and `EngineState`, how things stand.

Plain values for metrics, live pages and recordings; little is computed for them unless somebody looks. Read
`runner.py` for where they come from, `tracing.py` for who keeps them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from araio.engine.job import Job
from araio.engine.prefix import PrefixCache
from araio.engine.scheduler import Scheduler, Work
from araio.engine.speculate import Progress
from araio.kernels.ops import Int32Array, IntArray
from araio.nn.batch import Routes, Segment
from araio.nn.kv_cache import LatentPool
from araio.tensors import Float32Array
from araio.weights.counters import StreamCounters
from araio.weights.residency import StreamedExperts

__all__ = ["Drafted", "EngineState", "EngineStep", "Ran", "Watcher", "Watchers", "drafted", "ran", "state_of"]

log = logging.getLogger("araio.engine")


class Ran(NamedTuple):
    """One request's part of a step.

    ids        (T,) of its tokens that ran
    start      position of the first of them
    is_prompt  they belong to its prompt
    kept       so many of them count; what is behind was drafted, and wrong
    """

    job: Job
    ids: IntArray
    start: int
    is_prompt: bool
    kept: int

    @property
    def tokens(self) -> int:
        """T, those that do not count among them."""
        return len(self.ids)


class Drafted(NamedTuple):
    """A step of the MTP module behind a step of the model.

    parts    of each request, in the order of their tokens: the module's token at a position is the next one
    experts  (T, K) ids that each of its routed layers chose; `weights` (T, K) float32
    """

    parts: Sequence[Ran]
    experts: Sequence[Int32Array]
    weights: Sequence[Float32Array]


class EngineStep(NamedTuple):
    """A step that is over.

    parts    of each request, in the order of their tokens
    experts  (T, K) ids that each routed layer of the main model chose for the tokens of all parts
    weights  (T, K) float32 that it gave to each of them
    drafts   what the MTP module ran behind it; mostly one, or none
    seconds  that it took, choosing tokens and drafting included
    streamed what became of experts that were asked for, since the model was loaded; None if all are in memory
    """

    parts: Sequence[Ran]
    experts: Sequence[Int32Array]
    weights: Sequence[Float32Array]
    drafts: Sequence[Drafted]
    seconds: float
    streamed: StreamCounters | None


Watcher: TypeAlias = Callable[[EngineStep], None]
"""Told of every step, behind it and with the engine's lock held; so it must be quick. It may keep what it is
given and changes none of it."""


class Watchers:
    """All who watch one engine.

    streamed  where the model's experts come from, if not all are in memory
    """

    def __init__(self, streamed: StreamedExperts | None) -> None:
        self._streamed = streamed
        self._watchers: tuple[Watcher, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._watchers)

    def add(self, watcher: Watcher) -> None:
        """One more."""
        self._watchers += (watcher,)

    def remove(self, watcher: Watcher) -> None:
        """One less, if it is among them."""
        self._watchers = tuple(other for other in self._watchers if other != watcher)

    def tell(self, parts: Sequence[Ran], routes: Routes, drafts: Sequence[Drafted], seconds: float) -> None:
        """Tell all of them of a step that is over; one that fails is told no more, for it is no request's."""
        counters = None if self._streamed is None else self._streamed.counters
        step = EngineStep(parts, routes.ids, routes.weights, drafts, seconds, counters)
        for watcher in self._watchers:
            try:
                watcher(step)
            except Exception:
                self.remove(watcher)
                log.exception("who watched the engine's steps failed, and is not told of any more")


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


def ran(plan: Sequence[Work], segments: Sequence[Segment]) -> list[Ran]:
    """What a plan is about to run, none of it a wrong draft yet; asked before it does."""
    return [
        Ran(work.job, segment.ids, segment.cache.length, not segment.absorbed, work.tokens)
        for work, segment in zip(plan, segments, strict=True)
    ]


def drafted(progress: Sequence[Progress], routes: Routes) -> Drafted:
    """What the MTP module has just run, for requests that go on."""
    parts = [
        Ran(job, followers, job.length - len(followers), is_prompt, len(followers))
        for job, followers, _, is_prompt in progress
    ]
    return Drafted(parts, routes.ids, routes.weights)


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
