"""`Engine`: many requests at a time over one model, step by step.

    job = engine.submit(prompt_ids, params)
    while engine.step(): ...
    job.tokens, job.error

A step schedules, runs the model once, samples and gives out. What a request gets does not depend on what else
runs: its ids and log-probabilities are those of the naive loop, bit for bit with the compiled operations.
Steps exclude each other, so threads may submit, iterate and cancel as they like; `enter` and `step` are for
one thread that runs the engine for many who wait. Read `scheduler.py`, `job.py`, `prefix.py` and
`speculate.py` for the parts, `generate.py` for the definition.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from threading import Lock
from time import perf_counter

import numpy as np

from araio.engine.guide import Guide
from araio.engine.job import Job
from araio.engine.ledger import Ledger
from araio.engine.prefix import PrefixCache
from araio.engine.request import SamplingParams
from araio.engine.rows import is_unwanted, routes_of, wanted_rows
from araio.engine.scheduler import Scheduler, Work
from araio.engine.speculate import Drafter, Progress, Speculate, Speculation
from araio.engine.tokens import ExpertRoutes, GeneratedToken, Watch
from araio.engine.watch import Drafted, EngineState, Ran, Watcher, Watchers, drafted, ran, state_of
from araio.errors import RequestError
from araio.kernels.ops import PAGE, Int64Array
from araio.meters.meter import Meter, choose_meter
from araio.nn.batch import Routes
from araio.nn.kv_cache import CacheType, LatentCache
from araio.nn.mask import ExpertMask
from araio.nn.model import Model, Unwanted
from araio.tensors import Float32Array
from araio.text.tokenizer import Tokenizer
from araio.weights.residency import StreamedExperts

__all__ = ["Engine"]

NOTHING = np.empty(0, np.int64)


class Engine:
    """Runs requests together.

    tokenizer     turns ids into text; without it every text is empty, and requests may not have stop strings
    max_batch     requests that run together; more of them wait
    chunk         prompt tokens in a step
    cache_tokens  tokens of cache for all requests; one whole context if None
    cache_type    numbers of the cache
    speculate     draft with the MTP module, if the model has one: "on", "off", or "auto", where it pays
    meter         of the joules that requests take; the best of this machine if None
    streamed      where the model's experts come from, if not all are in memory

    Raises:
        RequestError: a number below 1.
        CostError: `ARAIO_TDP` is no number of watts.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer | None = None,
        *,
        max_batch: int = 16,
        chunk: int = 512,
        cache_tokens: int | None = None,
        cache_type: CacheType = "bfloat16",
        speculate: Speculate = "auto",
        meter: Meter | None = None,
        streamed: StreamedExperts | None = None,
    ) -> None:
        if cache_tokens is None:
            cache_tokens = model.config.max_position_embeddings
        for name, value in (("max_batch", max_batch), ("chunk", chunk), ("cache_tokens", cache_tokens)):
            if value < 1:
                raise RequestError(f"{name} is {value}; expected 1 or more")
        self.model = model
        self.lock = Lock()
        """Held during a step. Whoever runs the model beside the engine takes it."""
        self._watchers = Watchers(streamed)
        self._tokenizer = tokenizer
        self._pool = model.new_pool(cache_tokens, cache_type)
        self._prefix = PrefixCache(self._pool)
        self.max_batch = max_batch
        self._scheduler = Scheduler(max_batch, chunk, self._pool.size)
        self._drafter = None if model.mtp is None else Drafter(model, model.mtp)
        self._speculation = Speculation(speculate)
        position_bytes = self._pool.position_bytes
        meter = choose_meter() if meter is None else meter
        self._streamed = streamed
        self._ledger = Ledger(model, position_bytes, meter, streamed)

    @property
    def meter(self) -> Meter:
        """What counts the joules of requests."""
        return self._ledger.meter

    @property
    def total_pages(self) -> int:
        """Pages of the cache."""
        return self._pool.size

    @property
    def free_pages(self) -> int:
        """Pages that no request holds: those that nobody holds, and those kept for prompts to come."""
        with self.lock:
            return self._pool.free + self._prefix.idle

    def watch(self, watcher: Watcher) -> None:
        """Tell somebody of every step from now on, beside all who are told already."""
        with self.lock:
            self._watchers.add(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell them no more. No step is running when this returns, so they have seen all there is."""
        with self.lock:
            self._watchers.remove(watcher)

    def state(self) -> EngineState:
        """How things stand. Takes no lock, so it never waits for a step."""
        return state_of(self._scheduler, self._pool, self._prefix)

    def prepare(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        stop_ids: Collection[int] | None = None,
        guide: Guide | None = None,
        *,
        watches: Watch | None = None,
        mask: ExpertMask | None = None,
    ) -> Job:
        """A request that has been checked but does not run yet: for `tokens`.

        stop_ids  ids that end the text; the config's `eos_token_id` if None
        guide     of this request, at its beginning
        watches   whose experts to tell
        mask      the experts that it may use; None for all

        Raises:
            RequestError: a prompt that cannot run.
            CacheFullError: a prompt that fills the whole cache.
        """
        ends = self.model.config.eos_token_id if stop_ids is None else stop_ids
        tokens = self._pool.size * PAGE
        return Job(
            self.model.config,
            prompt_ids,
            params,
            ends,
            self._tokenizer,
            tokens,
            guide,
            watches=watches,
            mask=mask,
        )

    def submit(
        self, prompt_ids: Sequence[int], params: SamplingParams, stop_ids: Collection[int] | None = None
    ) -> Job:
        """Put a request in line; `prepare` says what is refused."""
        job = self.prepare(prompt_ids, params, stop_ids)
        self.enter(job)
        return job

    def enter(self, job: Job) -> None:
        """Put a prepared request in line. Its tokens come to `job.tokens` as steps are run, by whoever."""
        with self.lock:
            if not job.is_done:  # it may have been cancelled before
                job.enter_queue()
                self._scheduler.waiting.append(job)

    def step(self) -> bool:
        """Run one step; False if there is nothing to do."""
        with self.lock:
            return self._step()

    def cancel(self, job: Job) -> None:
        """End a request and free what it holds, at the latest after the step that is running.

        Whoever must not wait for that step sets `job.is_cancelled` instead; the next step then does the rest.
        """
        # At once: a step that runs for nobody else then stops at its next layer.
        job.is_cancelled = True
        with self.lock:
            self._drop(job)

    def tokens(self, job: Job) -> Generator[GeneratedToken, None, None]:
        """Submit a prepared request and give its tokens as they come; closing the iterator cancels it.

        Whoever waits runs the engine: threads that iterate at the same time take turns, and each step serves
        all of them.

        Raises:
            GenerationError: the model's output is not a number.
            Exception: whatever else ended this request, and no other.
        """
        try:
            self.enter(job)
            while True:
                while job.tokens:
                    yield job.tokens.popleft()
                if job.error is not None:
                    raise job.error
                if job.is_done:
                    return
                with self.lock:
                    if not job.tokens and not job.is_done:
                        self._step()
        finally:
            self.cancel(job)

    def _drop(self, job: Job) -> None:
        """End a request that was cancelled, if it has not ended by itself."""
        if not job.is_done:
            job.is_done = True
            self._retire(job)
            self._ledger.settle(is_idle=not self._scheduler.active)

    def _step(self) -> bool:
        for unwanted in self._scheduler.cancelled():
            self._drop(unwanted)
        while (job := self._scheduler.admit()) is not None:
            can_draft = self._drafter is not None and job.may_use_drafts
            job.is_drafting = can_draft and self._speculation.decide(self._scheduler.active)
            shared = self._prefix.match(job.prompt, job.mask_id, job.is_drafting) if job.may_skip else []
            job.leave_queue(LatentCache(self._pool, shared))
        plan = self._scheduler.plan()
        if not plan:
            return False
        self._ledger.open()
        started = perf_counter()
        # Every page was promised on admission; the prefix cache lives on what is not in use.
        self._prefix.give_up(pages=sum(work.job.pages_for_next(work.tokens) for work in plan))
        progress = self._run(plan)
        seconds = perf_counter() - started
        self._measure(plan, progress, seconds)
        has_ended = any(work.job.is_done for work in plan)
        self._ledger.close(seconds, has_ended, is_idle=not self._scheduler.active)
        return True

    def _run(self, plan: Sequence[Work]) -> list[Progress]:
        """Take every request on by one step; what those that go on have done.

        An error, whatever it is, belongs to the request that causes it, not to the thread that happens to run
        the step: where a step fails, its requests run one by one. Nothing is kept before all layers have run.
        """
        routes, started = Routes(), perf_counter()
        try:
            segments = [work.job.segment(work.tokens) for work in plan]
            parts = ran(plan, segments)
            hidden = self.model.step(segments, routes, lambda: is_unwanted(plan))
            rows = wanted_rows(plan)
            logits = self.model.logits(hidden if len(rows) == len(hidden) else hidden[rows])
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
        return [entry for work in plan for entry in self._run([work])]

    def _draft(self, drafting: Sequence[Progress]) -> list[Drafted]:
        """Drafts for the next step, and what was run for them; errors belong to requests as in `_run`."""
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
            is_prompt = parts[place].is_prompt
            watched = None
            if work.job.watches == "all" or (work.job.watches is not None and work.wanted):
                own = slice(row, row + work.tokens)
                watched = routes_of(own, routes, self.model.config.num_experts_per_tok)
            followers = self._take(work, logits[wanted : wanted + work.wanted], watched)
            if work.tokens == 2 and len(followers) < 2 and not is_prompt:
                parts[place] = parts[place]._replace(kept=1)
            if not work.job.is_done:
                rows = hidden[row : row + len(followers)]
                progress.append(Progress(work.job, followers, rows, is_prompt))
            row += work.tokens
            wanted += work.wanted
        return progress

    def _measure(self, plan: Sequence[Work], progress: Sequence[Progress], seconds: float) -> None:
        """Tell what a step took, if it was of one kind: answers only, all with drafts or all without."""
        kinds = {(entry.is_prompt, entry.job.is_drafting) for entry in progress}
        if len(progress) == len(plan) and len(kinds) == 1:
            is_prompt, drafts = kinds.pop()
            if not is_prompt:
                tokens = sum(len(entry.followers) for entry in progress)
                self._speculation.record(len(plan), drafts, seconds, tokens)

    def _take(self, work: Work, logits: Float32Array, routes: ExpertRoutes | None) -> Int64Array:
        """Give a request what it has come to; what goes wrong with it is its own error."""
        job, is_first = work.job, work.job.prompt_left == work.tokens
        try:
            followers = job.take(work.tokens, logits, routes)
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

    def _retire(self, job: Job) -> None:
        self._scheduler.remove(job)
        if job.cache is not None:
            job.cache.truncate(0)
            job.cache = None
