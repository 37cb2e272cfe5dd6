"""`Server`: listens, and ends in order.

A first SIGTERM or Ctrl-C begins the end: new requests get 503, `/ready` among them, so that a balancer looks
elsewhere; those that run finish, or end with an error when `drain_s` is over; the process ends with 0. A
second one ends it at once. Read `drain.py` for the state in between, `http.py` for single connections.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from araio.errors import RequestError
from araio.serve.drain import Drain
from araio.serve.http import HttpConfig
from araio.serve.settings import Settings

__all__ = ["Server", "bind"]

log = logging.getLogger("araio.serve")

# What the system keeps for a client that does not read. Left to itself it takes megabytes for each one, and
# says too late that a slow one has read some.
SEND_BUFFER_BYTES = 128 << 10

# Files that are open beside connections: weights, the log, libraries.
OTHER_FILES = 256


def bind(host: str, port: int) -> socket.socket:
    """A socket on an address, which others cannot take any more; it does not listen yet.

    Raises:
        RequestError: the address is not this machine's, or the port is taken or reserved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise RequestError(f"--host {host}: {error.strerror}; expected an address of this machine") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # connections inherit it
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise RequestError(
            f"{host} port {port}: {error.strerror}; choose another by --port, or --port 0 for any"
        ) from None
    return listener


class Server(uvicorn.Server):
    """Serves an app on a socket until it is told to end.

    on_ready  called once requests are answered
    on_late   called when running requests have had their time: ends each with an error that its client sees
    """

    def __init__(
        self,
        app: Any,
        settings: Settings,
        drain: Drain,
        on_ready: Callable[[], None] | None = None,
        on_late: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(HttpConfig(app, settings))
        self.drain, self._on_ready, self._on_late = drain, on_ready, on_late
        self._has_told_end = False
        _allow_files(settings.connections + OTHER_FILES)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal asks for the end; unlike uvicorn's own, it is not raised again when all is done."""
        if self.drain.has_begun:
            os._exit(128 + sig)
        self.drain.begin()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self._on_ready is not None:
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; asked ten times a second."""
        if self.drain.has_begun and not self._has_told_end:
            # Here and not in the handler, which may have come upon a line half written.
            self._has_told_end = True
            self._tell_end()
        return await super().on_tick(counter) or self.drain.is_over

    def _tell_end(self) -> None:
        if running := self.drain.running:
            log.info(
                "about to end; requests under way: %d, with %g s to finish; a second signal ends them",
                running,
                self.drain.seconds,
            )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything: at once what rests, in two seconds at most what still has an error to send."""
        self.drain.begin()
        if self.drain.running and self._on_late is not None:
            self._on_late()
        await super().shutdown(sockets)


def _allow_files(number: int) -> None:
    """Raise the soft limit of open files if connections alone could reach it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        most = number if hard == resource.RLIM_INFINITY else min(number, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
