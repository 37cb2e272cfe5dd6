"""`Scheduler`: which requests run in the next step, and how much of each; plain Python.

First come, first served, and nothing is ever taken away again: a request is admitted when the pages that it
may come to need are there, counted at the most (prompt and `max_tokens`). Pages that requests share are held
once, so they count once. So a request never stops halfway for want of memory, no two wait for each other, and
those at the head of the line get in as others end. Read `engine.py` next.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from araio.engine.job import Job
from araio.kernels.ops import PAGE, Int64Array

__all__ = ["Scheduler", "Work"]


SCORED_CHUNK = 64
"""Tokens in a step of all prompts whose log-probabilities were asked for, so that their logits stay small."""


class Work(NamedTuple):
    """One request's part in a step: how many tokens run, and after how many of them logits are wanted."""

    job: Job
    tokens: int
    wanted: int


class Scheduler:
    """Two lines: those that wait and those that run.

    max_batch  requests that run together
    chunk      prompt tokens in a step, which bounds how long the others wait for their next token
    pages      of the pool
    """

    def __init__(self, max_batch: int, chunk: int, pages: int) -> None:
        self.max_batch = max_batch
        self.chunk = chunk
        self.pages = pages
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []

    @property
    def active(self) -> int:
        """Requests that run."""
        return len(self.running)

    def admit(self) -> Job | None:
        """The next request to begin, or None if nobody waits or there is no room.

        It gets its cache before the next one is asked for. What it will share is not known yet and needs room
        here; it does not count any more once it runs.
        """
        if not self.waiting or len(self.running) == self.max_batch:
            return None
        if self._promised() + self.waiting[0].pages > self.pages or self._is_begun(self.waiting[0]):
            return None
        job = self.waiting.popleft()
        self.running.append(job)
        return job

    def cancelled(self) -> list[Job]:
        """Requests of both lines that nobody wants any more."""
        return [job for line in (self.running, self.waiting) for job in line if job.is_cancelled]

    def remove(self, job: Job) -> None:
        """Forget a request, wherever it stands."""
        if job in self.running:
            self.running.remove(job)
        elif job in self.waiting:
            self.waiting.remove(job)

    def plan(self) -> list[Work]:
        """The next step: every answer goes on, then prompts as far as the chunk reaches."""
        plan = []
        for job in self.running:
            if not job.prompt_left:
                tokens = 1 if job.draft is None else 2
                plan.append(Work(job, tokens, tokens))
        budget, scored = self.chunk, SCORED_CHUNK
        for job in self.running:
            if (left := job.prompt_left) and budget:
                count = min(left, budget)
                wanted = int(count == left)
                if job.prompt_logprobs is not None:
                    count = wanted = min(count, scored)
                    scored -= count
                budget -= count
                if count:
                    plan.append(Work(job, count, wanted))
        return plan

    def _is_begun(self, job: Job) -> bool:
        """Whether a prompt is being run that begins like this request's, by a page or more not in the cache.

        It will be in the cache soon, so whoever waits for it computes less. Those behind lose nothing: that
        prompt has the chunk to itself until it is over. One whose log-probabilities were asked for has not,
        and takes many more steps; nobody waits for it.
        """
        if not job.may_skip:
            return False
        return any(
            _shared_pages(other.prompt, job.prompt) * PAGE > other.cached_tokens
            for other in self.running
            if other.prompt_left and other.prompt_logprobs is None and other.mask_id == job.mask_id
        )

    def _promised(self) -> int:
        """Pages that those that run hold, each once, and those that they may still take."""
        caches = [job.cache for job in self.running if job.cache is not None]
        held = {page for cache in caches for page in cache.pages}
        taken = sum(len(cache.pages) for cache in caches)
        return len(held) + sum(job.pages for job in self.running) - taken


def _shared_pages(one: Int64Array, other: Int64Array) -> int:
    """Full pages that two prompts begin with alike, without the last token, which always runs."""
    length = min(len(one), len(other) - 1)
    differ = np.flatnonzero(one[:length] != other[:length])
    return (int(differ[0]) if len(differ) else length) // PAGE
