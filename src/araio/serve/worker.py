"""`Worker`: the one thread that runs the engine, and the way its tokens take to whoever waits for them.

    async with worker.run(generation) as steps:
        async for step in steps: ...

The event loop never waits for the engine: a request is put into an inbox, and after each of its steps the
thread hands the new tokens of all requests over in one call. Leaving the block cancels what is not finished;
it takes effect within the step that is running. Read `steps.py` for the tokens' other end, `service.py`
for who calls, `engine/engine.py` for what a step is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from threading import Condition, Thread
from time import perf_counter

from araio.engine.engine import Engine
from araio.engine.generation import Generation
from araio.engine.tokens import GeneratedToken
from araio.serve.steps import OnToken, Steps, ended

__all__ = ["Worker"]

STARVED_S = 0.05
"""How long to wait where requests run but the engine finds nothing to do, which should not be."""

log = logging.getLogger("araio.serve")


class Worker:
    """The engine's thread.

    backlog   tokens of an answer that may wait for its client
    on_token  called in the event loop, as `Steps` says
    """

    def __init__(self, engine: Engine, *, backlog: int = 4096, on_token: OnToken | None = None) -> None:
        self._engine = engine
        self._backlog = backlog
        self._on_token = on_token
        self._condition = Condition()
        self._inbox: deque[Steps] = deque()
        self._running: list[Steps] = []
        self._open: set[Steps] = set()
        self._is_stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=self._work, name="araio-engine", daemon=True)

    @property
    def active(self) -> int:
        """Requests that were handed over and are not finished."""
        return len(self._open)

    @property
    def is_alive(self) -> bool:
        """Whether it can take requests."""
        return self._thread.is_alive() and not self._is_stopping

    def start(self) -> None:
        """Begin; called in the event loop that the tokens go to."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is running; `end_all` before it tells whoever still waits."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    def end_all(self, error: Exception) -> None:
        """Give up everything that runs or waits; called in the event loop."""
        for steps in tuple(self._open):
            steps.end(error)

    @contextmanager
    def open(self, generations: Sequence[Generation]) -> Iterator[list[Steps]]:
        """Run requests side by side; those that are not finished when the block is left are cancelled.

        Raises:
            ApiError: 503, the thread does not run.
        """
        if not self.is_alive:
            raise ended()
        flows = [Steps(generation, self._backlog, self._on_token) for generation in generations]
        self._open.update(flows)
        with self._condition:
            self._inbox.extend(flows)
            self._condition.notify()
        try:
            yield flows
        finally:
            for flow in flows:
                flow.job.is_cancelled = True
            self._open.difference_update(flows)

    @asynccontextmanager
    async def run(self, generation: Generation) -> AsyncIterator[Steps]:
        """The same for one request: `async with worker.run(generation) as steps`."""
        with self.open([generation]) as flows:
            yield flows[0]

    def _work(self) -> None:
        try:
            self._serve()
        except Exception:
            log.exception("the engine's thread has ended; nothing can be answered any more")
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._end_by_itself)

    def _end_by_itself(self) -> None:
        """Nobody may wait for a thread that is gone; called in the event loop."""
        self._is_stopping = True  # it may not be quite gone yet
        self.end_all(ended())

    def _serve(self) -> None:
        while (entering := self._next()) is not None:
            for steps in entering:
                steps.last = perf_counter()
                self._engine.enter(steps.job)
            self._running += entering
            try:
                has_run = self._engine.step()
            except Exception as error:
                # The engine keeps a request's own errors; this one is everybody's who was in the step.
                log.exception("a step of the engine failed")
                self._fail_all(error)
                continue
            self._hand_out()
            if not has_run and self._running:
                with self._condition:
                    self._condition.wait(STARVED_S)

    def _next(self) -> list[Steps] | None:
        """Requests that came in, once there is something to do; None at the end."""
        with self._condition:
            while not (self._inbox or self._running or self._is_stopping):
                self._condition.wait()
            if self._is_stopping:
                return None
            entering = [steps for steps in self._inbox if not steps.job.is_cancelled]
            self._inbox.clear()
            return entering

    def _hand_out(self) -> None:
        """Send what the step brought to the event loop, in one call for all requests."""
        now = perf_counter()
        batch: list[tuple[Steps, list[GeneratedToken], bool]] = []
        for steps in self._running:
            job = steps.job
            tokens = list(job.tokens)
            job.tokens.clear()
            if tokens or job.is_done:
                batch.append((steps, tokens, job.is_done))
        self._running = [steps for steps in self._running if not steps.job.is_done]
        if batch:
            self._call(batch, now)

    def _fail_all(self, error: Exception) -> None:
        failed, self._running = self._running, []
        for steps in failed:
            self._engine.cancel(steps.job)
            steps.job.error = error
        self._call([(steps, [], True) for steps in failed], perf_counter())

    def _call(self, batch: Sequence[tuple[Steps, list[GeneratedToken], bool]], now: float) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(_deliver, batch, now)


def _deliver(batch: Sequence[tuple[Steps, list[GeneratedToken], bool]], now: float) -> None:
    for steps, tokens, is_over in batch:
        steps.deliver(tokens, now, is_over)
