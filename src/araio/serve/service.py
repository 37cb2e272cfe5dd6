"""`Service`: what every route needs: the model, the engine's thread, and who is under way.

    async with service.answering(answer_id, 1, prepare) as flows: ...

It counts requests and refuses more than the queue holds, prepares them beside the event loop, in a few
threads, and knows them by their ids, so that one can be told to answer now. Read `worker.py` for what runs
them, `chat.py` for who asks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

import araio
from araio.api import Model
from araio.config import ModelConfig
from araio.engine.generation import Generation
from araio.engine.watch import EngineStep
from araio.errors import AraioError
from araio.kernels.ops import PAGE
from araio.serve.errors import ApiError, invalid
from araio.serve.expert_counts import ExpertCounts
from araio.serve.metrics import Metrics
from araio.serve.recordings import Recordings, domains_of
from araio.serve.settings import Settings
from araio.serve.steps import Steps
from araio.serve.worker import Worker
from araio.weights.locate import BUNDLED, locate_config
from araio.weights.residency import StreamedExperts

__all__ = ["Service", "new_id"]

ResultT = TypeVar("ResultT")

log = logging.getLogger("araio.serve")

PREPARING_THREADS = 4
RETRY_S = 5
"""What a client that is turned away is told to wait."""


def new_id(prefix: str) -> str:
    """An id that nobody can guess: who has it may control the request."""
    return f"{prefix}-{secrets.token_hex(16)}"


def _hits(experts: StreamedExperts) -> tuple[list[int], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Layers, what each asked for, and what it missed."""
    # The engine goes on meanwhile: misses first, so that they are not more.
    missed = experts.missed.copy()
    return experts.layers, experts.asked.copy(), missed


def _without_drafts(config: ModelConfig) -> ModelConfig:
    """What a model is without the layers that only make it faster, which may not have been loaded."""
    return replace(config, num_nextn_predict_layers=0)


class Service:
    """One model, served.

    name         of the model, as clients call it
    created      when the service began, in seconds since 1970
    fingerprint  of model and version: answers to one seed are alike while it is the same
    conversations  it was taught to go on with one, and not single questions alone
    experts      how often each of them was chosen
    recordings   traces that are written
    metrics      what is counted of all this
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self.settings = settings
        # Text that fills more than the context is of no use here, and may be as large as a body.
        model.tokenizer.most_tokens = model.config.max_position_embeddings
        # A folder's name, not where it lies: that is nobody's business.
        self.name = Path(model.name).resolve().name
        experts = model.experts
        streamed = None if experts is None else lambda: experts.counters
        hits = None if experts is None else lambda: _hits(experts)
        # Those that come with araio, in whatever bits, are too small to have learned more than questions.
        small = [_without_drafts(locate_config(name)) for name in BUNDLED]
        self.conversations = _without_drafts(model.config) not in small
        domains = None if settings.trace is None else domains_of(model, settings.trace)
        self.experts = ExpertCounts(model.config, domains)
        self.recordings = Recordings(model, settings.traces, settings.trace_tokens)
        model.engine.watch(self._watch)
        self.metrics = Metrics(self.name, model.engine.state, streamed, self.experts.by_layer, hits)
        self.worker = Worker(model.engine, backlog=settings.backlog_tokens, on_token=self.metrics.token)
        self.created = int(time.time())
        said = f"{araio.__version__} {model.label} {model.config}"
        self.fingerprint = "fp_" + sha256(said.encode()).hexdigest()[:12]
        self._pending = 0
        self._under_way: dict[str, tuple[str, Sequence[Steps]]] = {}
        self._threads = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="araio-prepare")

    @property
    def context(self) -> int:
        """Tokens that a conversation and its answer may have together: in the context, and in the cache."""
        return min(self.model.config.max_position_embeddings, self.model.engine.total_pages * PAGE)

    @property
    def pending(self) -> int:
        """Answers that are asked for and not finished."""
        return self._pending

    def check_model(self, name: str | None) -> None:
        """Refuse a model that is not served; no name means the one that is.

        Raises:
            ApiError: 404.
        """
        if name not in (None, self.name, self.model.name):
            raise ApiError(
                404,
                f"there is no model {name[:80]!r}; this server has {self.name!r}",
                param="model",
                code="model_not_found",
            )

    async def start(self, prepare: Callable[[], ResultT]) -> ResultT:
        """The result of `prepare`, which runs in one of a few threads beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, prepare)

    @asynccontextmanager
    async def answering(
        self, holder: str, answer_id: str, count: int, prepare: Callable[[], Sequence[Generation]]
    ) -> AsyncIterator[list[Steps]]:
        """Prepare `count` generations and run them; leaving the block cancels what is not finished.

        holder  who asks; nobody else can control them

        Raises:
            ApiError: 503, more are under way than the queue holds; 400, so many never fit.
            Exception: what `prepare` raises.
        """
        with self._admitted(count):
            generations = await self.start(prepare)
            with self.worker.open(generations) as flows:
                self._under_way[answer_id] = holder, flows
                try:
                    with self._measured(flows):
                        yield flows
                finally:
                    del self._under_way[answer_id]

    def _watch(self, step: EngineStep) -> None:
        """What the engine's thread tells of each of its steps."""
        self.experts.record(step)
        self.metrics.step(sum(part.tokens for part in step.parts))

    @contextmanager
    def _measured(self, flows: Sequence[Steps]) -> Iterator[None]:
        """Count requests as they begin and as they end, well or not."""
        for flow in flows:
            self.metrics.started(len(flow.job.prompt), flow.job.params.max_tokens, len(flows))
        try:
            yield
        finally:
            for flow in flows:
                if flow.has_ended:
                    self.metrics.finished(flow.answer(), flow.seconds)
                else:
                    self.metrics.aborted()

    def control(self, holder: str, answer_id: str) -> Sequence[Steps]:
        """The requests that run for an answer; one of another key is none that this one knows.

        Raises:
            ApiError: 404.
        """
        owner, flows = self._under_way.get(answer_id, (None, ()))
        if owner != holder:
            raise ApiError(
                404, f"no answer {answer_id[:80]!r} is under way", param="id", code="answer_not_found"
            )
        return flows

    def close(self) -> None:
        """End the threads, and complete a trace that is being written."""
        self.worker.stop()
        # Before the recording: one of them may be about to begin it.
        self._threads.shutdown(wait=True, cancel_futures=True)
        try:
            self.recordings.stop()
        except AraioError as error:
            log.warning("the recording ended with the server: %s", error)
        except Exception:
            log.exception("the recording had failed before the server ended")

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        room = self.model.engine.max_batch + self.settings.queue
        if count > room:
            raise invalid(f"the request comes to {count} answers; this server has room for {room}", "n")
        if self._pending + count > room:
            self.metrics.rejected("queue_full")
            raise ApiError(
                503,
                f"{self._pending} answers are under way or wait, and there is room for {room} (`--queue`); "
                "try again later",
                code="queue_full",
                headers={"Retry-After": str(RETRY_S)},
            )
        self._pending += count
        try:
            yield
        finally:
            self._pending -= count
