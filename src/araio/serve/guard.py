"""`Guard`: what every request passes before a route sees it, as ASGI middleware.

1. `Host` is a name of this server, and `Origin`, if there is one, a page that may ask (`origins.py`).
2. The headers are not too large.
3. The key is one of those that were given out (`keys.py`); only the page's files and `/health` need none.
4. The server is not about to end (`drain.py`).
5. The key has not too many requests under way; where nobody needs one, only the queue has a limit.
6. The body arrives whole, in size and time (`body.py`), and does not nest too deep (`nesting.py`).

What it refuses is answered in the shape of the API's other errors (`errors.py`). Limits of connections are
those of `http.py`; limits of what a request may ask for are those of the routes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from araio.serve.body import BodyReader, Message, Receive
from araio.serve.drain import Drain
from araio.serve.errors import ApiError, error_response
from araio.serve.keys import KeyRing, presented_key
from araio.serve.nesting import nesting_failure
from araio.serve.origins import Origins, without_port
from araio.serve.settings import Settings

__all__ = ["CONTROL_PATH", "EVERYBODY", "HEALTH_PATH", "HOLDER", "METRICS_PATH", "Guard", "headers_too_large"]

Scope: TypeAlias = dict[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH_PATH = "/health"
METRICS_PATH = "/metrics"
CONTROL_PATH = "/v1/chat/completions/control"

# What anybody may fetch: whether the server lives, and the files of the page, where a key is typed in.
OPEN_PATHS = {HEALTH_PATH, "/"}
OPEN_FOLDER = "/page/"

# Answered at once and needed most when there is too much to do: no place among the requests of a key is asked
# for these, and a server that ends still answers them.
ALWAYS_ANSWERED = {HEALTH_PATH, METRICS_PATH, CONTROL_PATH}

EVERYBODY = ""
"""Whoever asks where nobody needs a key."""

HOLDER = "araio.holder"
"""Where a request's scope has the name of whoever holds its key."""

QUICK_BODY_BYTES = 64 << 10

RETRY_WHEN_BUSY_S = "1"
RETRY_WHEN_ENDING_S = "5"


class Guard:
    """The middleware of one server.

    app         what is guarded
    settings    whom it answers to, and the limits
    drain       says whether the server is about to end; told of every request that runs
    on_refusal  called with the reason of each refusal, a word of a fixed set
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        drain: Drain,
        on_refusal: Callable[[str], None] | None = None,
    ) -> None:
        self._app, self._settings, self._drain = app, settings, drain
        self._origins = Origins(settings.host, settings.hosts, settings.origins)
        self._keys = KeyRing(settings.keys)
        self._bodies = BodyReader(settings.body_bytes, settings.body_s)
        self._on_refusal = on_refusal
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the events of start and end, which are the app's alone."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        assert scope["type"] == "http", "the server offers no web sockets"
        headers = dict(scope["headers"])
        # What the answer carries whoever gives it.
        added: Headers = [(b"x-content-type-options", b"nosniff")]
        send = _adding(send, added)
        try:
            self._check_stranger(scope, headers)
            if b"origin" in headers:
                if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                    await _answer(send, 204, self._origins.preflight_headers(headers), b"")
                    return
                added += self._origins.cors_headers(headers[b"origin"])
            await self._admit(scope, headers, receive, send)
        except ApiError as refusal:
            if self._on_refusal is not None:
                self._on_refusal(refusal.code or "")
            await error_response(refusal)(scope, receive, send)

    def _check_stranger(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Whether the request may come from where it comes from at all."""
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
        # The parser below looks at what is not complete yet, and so lets through what arrives in one piece.
        if size > self._settings.header_bytes:
            raise headers_too_large(self._settings.header_bytes)
        host, origin = headers.get(b"host"), headers.get(b"origin")
        if host is None:
            raise ApiError(400, "the request has no Host header", code="host")
        reached = scope["server"][0] if scope.get("server") else None
        if not self._origins.allows_host(host, reached):
            raise ApiError(
                403,
                f"this server does not answer to the name {_shown(without_port(host))}; `--allow-host NAME` "
                "adds one",
                code="host",
            )
        if origin is not None and not self._origins.allows_origin(origin, host):
            raise ApiError(
                403,
                f"pages of {_shown(origin)} may not ask this server; `--allow-origin ORIGIN` lets them",
                code="origin",
            )

    async def _admit(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        """Let the app have the request once the key is known, there is room, and the body is there."""
        path, is_reading = scope["path"], scope["method"] in ("GET", "HEAD")
        is_open = is_reading and (path in OPEN_PATHS or path.startswith(OPEN_FOLDER))
        holder = EVERYBODY if is_open else self._holder(scope["headers"])
        is_always_answered = is_open or path in ALWAYS_ANSWERED
        # What only reads is answered at once, and takes no place that others could need.
        is_work = not is_reading and not is_always_answered

        def check_room() -> None:
            if self._drain.has_begun and not is_always_answered:
                raise _ending()
            if is_work and holder != EVERYBODY and self._under_way[holder] >= self._settings.per_key:
                raise self._too_many()

        scope = {**scope, HOLDER: holder}
        if scope["method"] == "HEAD":
            # What GET would be answered; the connection leaves the body out.
            scope = {**scope, "method": "GET"}
        check_room()
        if b"content-length" in headers or b"transfer-encoding" in headers:
            arrived = await self._arrived(headers, receive)
            if arrived is None:
                return
            receive = arrived
            check_room()  # others may have come while it arrived
        if is_work:
            with self._drain.counted(), self._counted(holder):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _arrived(self, headers: dict[bytes, bytes], receive: Receive) -> Receive | None:
        """Gives the whole body, which it forgets then; None if the client went away before it was there."""
        body = await self._bodies.read(headers, receive)
        if body is None:
            return None
        # A large one takes long enough for others to notice.
        beside = len(body) > QUICK_BODY_BYTES
        if failure := await asyncio.to_thread(nesting_failure, body) if beside else nesting_failure(body):
            raise ApiError(400, failure, code="nesting")
        return _replaying(body, receive)

    @contextmanager
    def _counted(self, holder: str) -> Iterator[None]:
        self._under_way[holder] += 1
        try:
            yield
        finally:
            self._under_way[holder] -= 1

    def _holder(self, headers: Headers) -> str:
        """The name of whoever holds the request's key."""
        if not self._keys:
            return EVERYBODY
        key = presented_key(headers)
        if key is None:
            raise _unknown_key("no API key; send `Authorization: Bearer KEY`, or `x-api-key: KEY`")
        holder = self._keys.find(key)
        if holder is None:
            raise _unknown_key("the API key is not one of this server's")
        return holder

    def _too_many(self) -> ApiError:
        most = self._settings.per_key
        return ApiError(
            429,
            f"{most} requests are under way, as many as one key may have (per_key); wait for one to end",
            code="key_limit",
            headers={"Retry-After": RETRY_WHEN_BUSY_S},
        )


def headers_too_large(most_bytes: int) -> ApiError:
    """What is said to a request whose first line and headers exceed a size."""
    return ApiError(
        431, f"the headers are larger than {most_bytes:,} bytes (header_bytes)", code="header_size"
    )


def _unknown_key(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def _ending() -> ApiError:
    return ApiError(
        503, "the server is about to end", code="draining", headers={"Retry-After": RETRY_WHEN_ENDING_S}
    )


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Gives the body in one message, then whatever comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _adding(send: Send, added: Headers) -> Send:
    """Sends what it is given, with these headers in the answer's beginning."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *added]
        await send(message)

    return add


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _shown(value: bytes) -> str:
    """A header of a stranger, short enough and safe to print."""
    return repr(value[:100].decode("latin-1"))
