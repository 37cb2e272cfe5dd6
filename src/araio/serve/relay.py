"""`Relay`: an answer in a dialect of typed events, as they come or as the document they add up to.

The dialects differ in their `Events` and in nothing else. An answer that fails behind its first event ends
with an event of its dialect. Read `sse.py` for the stream, `responses_events.py` and `messages_events.py` for
the events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from fastapi import Response
from pydantic import BaseModel

from araio.engine.answer import Answer, Step
from araio.engine.generation import Generation
from araio.serve.ask import Ask
from araio.serve.errors import ApiError, naming
from araio.serve.service import Service
from araio.serve.sse import EventStream, data_event
from araio.serve.steps import Steps
from araio.serve.whole import WholeAnswer, json_bytes

__all__ = ["Events", "Relay"]


class Events(Protocol):
    """An answer as a dialect tells it."""

    @property
    def document(self) -> BaseModel:
        """What the events add up to so far."""

    def start(self) -> Sequence[dict[str, Any]]:
        """Events before the first token."""

    def take(self, step: Step) -> Sequence[dict[str, Any]]:
        """Events of a token."""

    def finish(self, answer: Answer) -> Sequence[dict[str, Any]]:
        """Events behind the last token."""

    def fail(self, error: ApiError) -> Sequence[dict[str, Any]]:
        """Events of an answer that cannot go on."""


class Relay:
    """One request under way.

    holder     who asks; nobody else can control it
    answer_id  by which it can be controlled
    ask        translates the request, in a thread beside the event loop
    make       the events of an answer that is prepared
    """

    def __init__(
        self,
        service: Service,
        holder: str,
        answer_id: str,
        ask: Callable[[], Ask],
        make: Callable[[Generation], Events],
    ) -> None:
        self._service = service
        self._holder = holder
        self._answer_id = answer_id
        self._ask = ask
        self._make = make
        self._events: Events | None = None

    def response(self, *, is_stream: bool) -> Response:
        """The answer as it comes, or in one piece; a client that hangs up ends it."""
        if is_stream:
            return EventStream(self._stream(), fail=self._fail)
        return WholeAnswer(self._whole)

    async def _whole(self) -> bytes:
        async with self._answering() as (steps,):
            events = self._make(steps.generation)
            async for step in steps:
                events.take(step)
            events.finish(steps.answer())
            return await self._service.start(lambda: json_bytes(events.document.model_dump()))

    async def _stream(self) -> AsyncGenerator[bytes]:
        async with self._answering() as (steps,):
            self._events = events = self._make(steps.generation)
            yield typed_events(events.start())
            async for step in steps:
                if found := events.take(step):
                    yield typed_events(found)
            yield typed_events(events.finish(steps.answer()))

    def _fail(self, error: ApiError) -> bytes:
        """What ends a stream that has begun."""
        assert self._events is not None
        return typed_events(self._events.fail(error))

    def _answering(self) -> AbstractAsyncContextManager[list[Steps]]:
        return self._service.answering(self._holder, self._answer_id, 1, self._prepare)

    def _prepare(self) -> list[Generation]:
        ask = self._ask()
        with naming(ask.fields):
            return [self._service.model.prepare(ask.messages, **ask.options)]


def typed_events(documents: Sequence[dict[str, Any]]) -> bytes:
    """Events that are each called after the document's `type`."""
    return b"".join(f"event: {each['type']}\n".encode() + data_event(each) for each in documents)
