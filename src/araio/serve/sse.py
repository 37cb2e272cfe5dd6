"""`EventStream`: an answer as server-sent events, and what happens when its client goes away.

An error before the first event is an ordinary response; behind it, it is an event of its own and the end of
the stream. A comment is sent where nothing else was for some time, so that nobody in between hangs up.
Read `whole.py` for answers in one piece.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from araio.serve.errors import LOGGED, ApiError, api_error, error_body
from araio.serve.whole import ClientGoneError, json_bytes, unless_gone

__all__ = ["DONE", "EventStream", "data_event", "streamed"]

PING_S = 15.0
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

log = logging.getLogger("araio.serve")


def data_event(document: dict[str, Any]) -> bytes:
    """One event with a JSON document."""
    return b"data: " + json_bytes(document) + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """The last event of a stream that fails."""
    return data_event(error_body(error))


def told(error: Exception) -> ApiError:
    """What the client of a stream is told of an exception; what it is not told goes to the log."""
    found = api_error(error)
    if found.code in LOGGED:
        log.error("a stream failed", exc_info=error)
    return found


def streamed(model: type[BaseModel], answer: str, events: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers in one piece or, with `stream: true`, as a stream.

    answer, events  what they are called
    """
    return {
        200: {
            "model": model,
            "description": f"The {answer}; with `stream: true` its {events}, as server-sent events.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    }


class EventStream(Response):
    """The events of a generator, which is closed when the client leaves, whatever it waits for.

    ping_s  seconds without an event after which a comment is sent
    fail    makes the last event of a stream that cannot go on
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        ping_s: float = PING_S,
        fail: Callable[[ApiError], bytes] = error_event,
    ) -> None:
        super().__init__(None, 200, HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._ping_s = ping_s
        self._fail = fail
        self._last = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with suppress(ClientGoneError):
            await unless_gone(receive, self._write(send))

    async def _write(self, send: Send) -> None:
        pings: asyncio.Task[None] | None = None
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    if pings is None:
                        await self._begin(send)
                        pings = asyncio.create_task(self._ping(send))
                    await self._send(send, event)
        except Exception as error:
            if pings is None:
                raise
            await self._send(send, self._fail(told(error)))
        finally:
            if pings is not None:
                pings.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _send(self, send: Send, event: bytes) -> None:
        self._last = monotonic()
        await send({"type": "http.response.body", "body": event, "more_body": True})

    async def _ping(self, send: Send) -> None:
        while True:
            idle_s = monotonic() - self._last
            if idle_s >= self._ping_s:
                await self._send(send, PING)
                idle_s = 0.0
            await asyncio.sleep(self._ping_s - idle_s)
