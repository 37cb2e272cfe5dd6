"""One connection of a client, as uvicorn's h11 protocol has it, with the limits that uvicorn leaves out.

    headers   that are too large get 431, those that do not arrive in time 408, malformed ones 400
    rest      a connection without a request is closed after `idle_s`, or when room is needed for another
    number    above `connections` one that has rested long makes room; if all work, 503
    readers   one that takes next to nothing of its answer for `stall_s` is dropped
    senders   one that goes on sending a body that was refused gets a few seconds to read why

uvicorn waits for headers and for slow readers without end, and answers what is malformed in plain text. Read
`server.py` next for what surrounds all connections, `guard.py` for what a request passes once its headers are
there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from araio.serve.errors import ApiError, error_body
from araio.serve.guard import headers_too_large
from araio.serve.settings import Settings

__all__ = ["Connection", "HttpConfig"]

# A reader has to take this much of its answer in `stall_s`, as seen from here: the system's own buffer is in
# between, and wants to be filled again only when a good part of it is free.
LEAST_READ_BYTES = 1024

# What a client that was refused may take to read why, while the rest of what it sends is thrown away. Closed
# at once, its system would report a broken connection and lose the answer.
LINGER_S = 2.0
# At most so many refused connections linger at a time; more of them are closed without a word.
MOST_LINGERING = 64

# Only a connection that has rested this long makes room for another: newer ones may be about to ask.
LEAST_REST_S = 1.0


class HttpConfig(uvicorn.Config):
    """uvicorn's settings for one server, with ours beside them.

    lingering  connections that were refused and are about to be closed
    """

    def __init__(self, app: Any, settings: Settings) -> None:
        super().__init__(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=round(settings.idle_s),
            timeout_graceful_shutdown=round(LINGER_S),
            h11_max_incomplete_event_size=settings.header_bytes,
        )
        self.settings = settings
        self.lingering: set[Connection] = set()


class Timer:
    """A call that is due after some time, if one is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether one is."""
        return self._handle is not None

    def start(self, seconds: float, call: Callable[[], object]) -> None:
        """Call this then, and not what was due before."""
        self.stop()

        def due() -> None:
            self._handle = None
            call()

        self._handle = self._loop.call_later(seconds, due)

    def stop(self) -> None:
        """Nothing is due any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Connection(H11Protocol):
    """One of them."""

    config: HttpConfig
    cycle: Any  # of the latest request; None before the first, whatever uvicorn's annotation says

    def __init__(
        self,
        config: HttpConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.resting_since_s: float | None = None
        """Since when it waits for the whole of a request's headers; None while it has a request."""
        self._settings = config.settings
        self._is_refused = False
        self._header_timer, self._linger_timer, self._stall_timer = (Timer(self.loop) for _ in range(3))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        has_room = len(self.connections) < self._settings.connections or self._make_room()
        super().connection_made(transport)
        # Whatever is not taken is a stall: then the bytes that wait only grow fewer, and their number tells.
        transport.set_write_buffer_limits(high=0)
        if has_room:
            self._watch_rest()
        else:
            more = {"Retry-After": "2"}
            self._refuse(ApiError(503, "too many connections", code="connections", headers=more))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, from either side."""
        super().connection_lost(exc)
        self.config.lingering.discard(self)
        for timer in (self._header_timer, self._linger_timer, self._stall_timer):
            timer.stop()
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if not self._is_refused:
            super().data_received(data)

    def handle_events(self) -> None:
        """What these bytes have completed."""
        super().handle_events()
        self._watch_rest()

    def on_response_complete(self) -> None:
        """An answer has been given out, which may have come before the request was read."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._linger_timer.start(LINGER_S, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Refuse what h11 cannot make sense of; called while its exception is handled."""
        error = sys.exception()
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if hint == 431:
            self._refuse(headers_too_large(self._settings.header_bytes))
        else:
            status = 501 if hint == 501 else 400
            self._refuse(ApiError(status, f"this is not valid HTTP: {error}", code="malformed"))

    def pause_writing(self) -> None:
        """The client has not taken all yet."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """The client has taken all."""
        super().resume_writing()
        self._stall_timer.stop()

    def _watch_rest(self) -> None:
        """Begin or end the time that headers may take.

        It begins with the connection, later with their first byte; in between uvicorn counts until `idle_s`.
        """
        is_resting = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if not is_resting:
            self.resting_since_s = None
            self._header_timer.stop()
            return
        self._linger_timer.stop()  # the body that nobody wanted has ended in time
        if self.resting_since_s is None:
            self.resting_since_s = self.loop.time()
        if not self._header_timer.is_running and (self.cycle is None or self.conn.trailing_data[0]):
            self._header_timer.start(self._settings.header_s, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        if not self.conn.trailing_data[0]:
            self.transport.close()
            return
        seconds = self._settings.header_s
        message = f"the headers did not arrive within {seconds:g} s (header_s)"
        self._refuse(ApiError(408, message, code="header_time"))

    def _make_room(self) -> bool:
        """Close the connection that has rested longest; False if none has rested long enough."""
        latest = self.loop.time() - LEAST_REST_S
        # Those that have never asked go first: a client that has may be about to ask again.
        resting = [
            (connection.cycle is not None, connection.resting_since_s, connection)
            for connection in self.connections
            if isinstance(connection, Connection)
            and connection.resting_since_s is not None
            and connection.resting_since_s < latest
        ]
        if not resting:
            return False
        *_, oldest = min(resting, key=lambda entry: entry[:2])
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _watch_reader(self) -> None:
        waiting = self.transport.get_write_buffer_size()

        def look() -> None:
            if waiting - self.transport.get_write_buffer_size() < LEAST_READ_BYTES:
                self.transport.abort()
            else:
                self._watch_reader()

        self._stall_timer.start(self._settings.stall_s, look)

    def _refuse(self, refusal: ApiError) -> None:
        """Answer what is no request, or comes when there is no room, and end the connection."""
        self.connections.discard(self)
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # Once an answer has begun there is no place for another; nor is there for too many who linger.
        has_answer = self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE)
        if has_answer or len(self.config.lingering) >= MOST_LINGERING:
            self.transport.abort()
            return
        body = json.dumps(error_body(refusal)).encode()
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **(refusal.headers or {}),
        }
        response = h11.Response(
            status_code=refusal.status_code,
            headers=[*headers.items()],
            reason=STATUS_PHRASES[refusal.status_code],
        )
        events: tuple[h11.Event, ...] = (response, h11.Data(data=body), h11.EndOfMessage())
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        with suppress(OSError):  # it may be gone already
            self.transport.write_eof()
        self.config.lingering.add(self)
        self._linger_timer.start(LINGER_S, self.transport.abort)
