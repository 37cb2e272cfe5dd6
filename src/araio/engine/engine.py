"""`Engine`: many requests at a time over one model, step by step.

    job = engine.submit(prompt_ids, params)
    while engine.step(): ...
    job.tokens, job.error

A step schedules, runs the model once, samples and gives out. What a request gets does not depend on what else
runs: its ids and log-probabilities are those of the naive loop, bit for bit with the compiled operations.
Steps exclude each other, so threads may submit, iterate and cancel as they like; `enter` and `step` are for
one thread that runs the engine for many who wait. Read `scheduler.py`, `job.py`, `prefix.py`, `runner.py` and
`speculate.py` for the parts, `generate.py` for the definition.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from threading import Lock
from time import perf_counter

from araio.engine.guide import Guide
from araio.engine.job import Job
from araio.engine.ledger import Ledger
from araio.engine.prefix import PrefixCache
from araio.engine.request import SamplingParams
from araio.engine.runner import Runner
from araio.engine.scheduler import Scheduler, Work
from araio.engine.speculate import Drafter, Progress, Speculate, Speculation
from araio.engine.tokens import GeneratedToken, Watch
from araio.engine.watch import EngineState, Watcher, Watchers, state_of
from araio.errors import RequestError
from araio.kernels.ops import PAGE
from araio.meters.meter import Meter, choose_meter
from araio.nn.kv_cache import CacheType, LatentCache
from araio.nn.mask import ExpertMask
from araio.nn.model import Model
from araio.text.tokenizer import Tokenizer
from araio.weights.residency import StreamedExperts

__all__ = ["Engine"]


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
        self._ledger = Ledger(model, position_bytes, meter, streamed)
        self._runner = Runner(
            model, self._drafter, self._prefix, self._ledger, self._watchers, retire=self._retire
        )

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
        progress = self._runner.run(plan)
        seconds = perf_counter() - started
        self._measure(plan, progress, seconds)
        has_ended = any(work.job.is_done for work in plan)
        self._ledger.close(seconds, has_ended, is_idle=not self._scheduler.active)
        return True

    def _measure(self, plan: Sequence[Work], progress: Sequence[Progress], seconds: float) -> None:
        """Tell what a step took, if it was of one kind: answers only, all with drafts or all without."""
        kinds = {(entry.is_prompt, entry.job.is_drafting) for entry in progress}
        if len(progress) == len(plan) and len(kinds) == 1:
            is_prompt, drafts = kinds.pop()
            if not is_prompt:
                tokens = sum(len(entry.followers) for entry in progress)
                self._speculation.record(len(plan), drafts, seconds, tokens)

    def _retire(self, job: Job) -> None:
        self._scheduler.remove(job)
        if job.cache is not None:
            job.cache.truncate(0)
            job.cache = None
