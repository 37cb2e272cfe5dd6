"""`Steps`: one request's tokens on their way from the engine's thread to whoever waits for them.

The thread delivers, the event loop takes; a client that takes too little is given up. Read `worker.py` for
the thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from time import perf_counter
from typing import TypeAlias

from araio.engine.answer import Answer, Step
from araio.engine.generation import Generation
from araio.engine.tokens import GeneratedToken
from araio.serve.errors import ApiError

__all__ = ["OnToken", "Steps", "cancelled", "ended", "merged"]

OnToken: TypeAlias = Callable[[float, bool], None]


class Steps:
    """One request's tokens as they come: an asynchronous iterator of `Step`, in the event loop.

    backlog   tokens that may wait to be taken before the request is given up
    on_token  called with the seconds that a token took, and whether it is the first

    Raises, while iterated:
        ApiError: it was cancelled by somebody else, or its tokens were not taken.
        Exception: what ended this request.
    """

    def __init__(self, generation: Generation, backlog: int, on_token: OnToken | None = None) -> None:
        self.generation = generation
        self.job = generation.job
        self.wake = asyncio.Event()
        self.ids: list[int] = []
        """Of the tokens that were taken."""
        self.stop_reason: str | None = None
        """The stop string that ended the text, if one did."""
        self.last = 0.0
        """When its newest token came, by `perf_counter`."""
        self.opened = perf_counter()
        self._backlog = backlog
        self._on_token = on_token
        self._is_first = True
        self._waiting: deque[tuple[GeneratedToken, float]] = deque()
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self._is_over = False

    @property
    def seconds(self) -> float:
        """From its beginning to its newest token."""
        return self.last - self.opened

    @property
    def has_ended(self) -> bool:
        """Whether everything was taken and no more will come."""
        return self._is_over and not self._waiting and self._error is None

    @property
    def has_news(self) -> bool:
        """Whether there is something to take, or nothing to wait for."""
        return bool(self._waiting) or self._is_over

    def take(self) -> Step | None:
        """The next step if it is there."""
        if self._waiting:
            token, seconds = self._waiting.popleft()
            self.ids.append(token.id)
            self.stop_reason = token.stop_reason
            return self.generation.take(token, seconds)
        if self._error is not None:
            raise self._error
        return None

    def answer(self) -> Answer:
        """All of it, once it has ended."""
        if self._answer is None:
            self._answer = self.generation.answer()
        return self._answer

    def end(self, error: Exception) -> None:
        """Give it up: whoever iterates gets the error behind what is there already."""
        if not self._is_over:
            self.job.is_cancelled = True
            self._is_over, self._error = True, error
            self.wake.set()

    def deliver(self, tokens: Sequence[GeneratedToken], now: float, is_over: bool) -> None:
        """What one step of the engine has brought; called in the event loop."""
        if self._is_over:
            return
        for token in tokens:
            self._waiting.append((token, now - self.last))
            if self._on_token is not None:
                self._on_token(now - (self.opened if self._is_first else self.last), self._is_first)
            self.last, self._is_first = now, False
        self._is_over = is_over
        if is_over:
            was_cut = self.job.is_cancelled and not (tokens and tokens[-1].finish_reason)
            self._error = self.job.error or (cancelled() if was_cut else None)
        elif len(self._waiting) > self._backlog:
            self._waiting.clear()
            self.end(ApiError(499, f"the client left more than {self._backlog} tokens untaken"))
        self.wake.set()

    def __aiter__(self) -> AsyncIterator[Step]:
        return self

    async def __anext__(self) -> Step:
        while (step := self.take()) is None:
            if self._is_over:
                raise StopAsyncIteration
            self.wake.clear()
            await self.wake.wait()
        return step


def cancelled() -> ApiError:
    """What whoever still waits is told of a request that was cancelled."""
    return ApiError(499, "the request was cancelled", code="cancelled")


def ended() -> ApiError:
    """What is told where nothing can be answered any more."""
    return ApiError(503, "the engine has ended", code="engine_ended")


async def merged(flows: Sequence[Steps]) -> AsyncIterator[tuple[int, Step]]:
    """The steps of several requests as they come, each with its request's place in `flows`."""
    wake = asyncio.Event()
    for flow in flows:
        flow.wake = wake
    while True:
        wake.clear()
        for index, flow in enumerate(flows):
            while (step := flow.take()) is not None:
                yield index, step
        if all(flow.has_ended for flow in flows):
            return
        await wake.wait()
