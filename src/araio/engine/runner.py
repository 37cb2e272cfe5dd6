"""`Runner`: runs the model once for all requests of a plan, and gives each what it has come to.

An error, whatever it is, belongs to the request that causes it, not to the thread that happens to run the
step. Read `engine.py` for who plans, `job.py` for what a request makes of its scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from araio.engine.job import Job
from araio.engine.ledger import Ledger
from araio.engine.prefix import PrefixCache
from araio.engine.rows import is_unwanted, routes_of, wanted_rows
from araio.engine.scheduler import Work
from araio.engine.speculate import Drafter, Progress
from araio.engine.watch import Drafted, Ran, Watchers, drafted, ran
from araio.kernels.ops import Int64Array
from araio.nn.batch import Routes, Unwanted
from araio.nn.model import Model
from araio.tensors import Float32Array

__all__ = ["Runner"]

NOTHING = np.empty(0, np.int64)


class Runner:
    """The model, and all that looks on while it runs.

    drafter   drafts the next step's tokens; None for a model that cannot
    prefix    keeps the prompts that have run
    ledger    is told what every step did
    watchers  are told of every step
    retire    ends a request that is done
    """

    def __init__(
        self,
        model: Model,
        drafter: Drafter | None,
        prefix: PrefixCache,
        ledger: Ledger,
        watchers: Watchers,
        retire: Callable[[Job], None],
    ) -> None:
        self._model = model
        self._drafter = drafter
        self._prefix = prefix
        self._ledger = ledger
        self._watchers = watchers
        self._retire = retire

    def run(self, plan: Sequence[Work]) -> list[Progress]:
        """Take every request on by one step; what those that go on have done.

        Where a step fails, its requests run one by one. Nothing is kept before all layers have run.
        """
        routes, started = Routes(), perf_counter()
        try:
            segments = [work.job.segment(work.tokens) for work in plan]
            parts = ran(plan, segments)
            hidden = self._model.step(segments, routes, lambda: is_unwanted(plan))
            rows = wanted_rows(plan)
            logits = self._model.logits(hidden if len(rows) == len(hidden) else hidden[rows])
        except Unwanted:
            return []  # its requests end with the next step
        except Exception as error:  # noqa: BLE001 - kept as the request's own
            if len(plan) == 1:
                self._fail(plan[0].job, error)
                return []
        else:
            self._ledger.count(plan, routes.ids)
            progress = self._take_all(plan, parts, hidden, logits, routes)
            drafts = self._draft([entry for entry in progress if entry.job.is_drafting])
            if self._watchers:
                self._watchers.tell(parts, routes, drafts, perf_counter() - started)
            return progress
        return [entry for work in plan for entry in self.run([work])]

    def _draft(self, drafting: Sequence[Progress]) -> list[Drafted]:
        """Drafts for the next step, and what was run for them; errors belong to requests as in `run`."""
        if self._drafter is None or not drafting:
            return []
        routes = Routes()
        try:
            self._drafter.draft(drafting, routes)
        except Exception as error:  # noqa: BLE001 - kept as the request's own
            if len(drafting) == 1:
                self._fail(drafting[0].job, error)
                return []
        else:
            self._ledger.count_drafts(drafting, routes.ids)
            return [drafted(drafting, routes)] if self._watchers else []
        return [run for entry in drafting for run in self._draft([entry])]

    def _take_all(
        self,
        plan: Sequence[Work],
        parts: list[Ran],
        hidden: Float32Array,
        logits: Float32Array,
        routes: Routes,
    ) -> list[Progress]:
        """Give every request what it has come to; what those that go on have done.

        parts  of the step; those with a wrong draft are replaced
        """
        progress, row, wanted = [], 0, 0
        for place, work in enumerate(plan):
            is_prompt, own = parts[place].is_prompt, slice(row, row + work.tokens)
            followers = self._take(work, logits[wanted : wanted + work.wanted], routes, own)
            if work.tokens == 2 and len(followers) < 2 and not is_prompt:
                parts[place] = parts[place]._replace(kept=1)
            if not work.job.is_done:
                rows = hidden[row : row + len(followers)]
                progress.append(Progress(work.job, followers, rows, is_prompt))
            row += work.tokens
            wanted += work.wanted
        return progress

    def _take(self, work: Work, logits: Float32Array, routes: Routes, rows: slice) -> Int64Array:
        """Give a request what it has come to in its rows; what goes wrong with it is its own error."""
        job, is_first = work.job, work.job.prompt_left == work.tokens
        watched = None
        try:
            if job.watches == "all" or (job.watches is not None and work.wanted):
                watched = routes_of(rows, routes, self._model.config.num_experts_per_tok)
            followers = job.take(work.tokens, logits, watched)
        except Exception as error:  # noqa: BLE001 - kept as the request's own
            self._fail(job, error)
            return NOTHING
        if is_first:
            assert job.cache is not None
            # The module runs behind this, and only for those that go on.
            self._prefix.keep(job.prompt, job.mask_id, job.cache.pages, job.is_drafting and not job.is_done)
        if job.is_done:
            self._retire(job)
        return followers

    def _fail(self, job: Job, error: Exception) -> None:
        job.error, job.is_done = error, True
        self._retire(job)
