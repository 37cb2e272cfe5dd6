"""`answer_loading`: what a client is told while the model is being loaded: 503, and to come again.

The address is taken before a large model is loaded, which may last minutes. Until the server proper takes
over the socket, one thread answers whatever is asked in one way, reads little and waits for nobody long.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic

from araio.serve.errors import ApiError, error_body

__all__ = ["answer_loading"]

POLL_S = 0.1
PATIENCE_S = 1.0
MOST_BYTES = 64 << 10
RETRY_S = 5

ERROR = ApiError(503, "the model is being loaded; try again in a moment", code="loading")


@contextmanager
def answer_loading(listener: socket.socket) -> Iterator[None]:
    """Answer on a bound socket until the block is left; connections that come later are left to others."""
    is_over = Event()
    listener.listen()
    listener.settimeout(POLL_S)
    thread = Thread(target=_answer_all, args=(listener, is_over), name="araio-loading", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _answer_all(listener: socket.socket, is_over: Event) -> None:
    while not is_over.is_set():
        # Whatever a client does wrong is its own loss.
        with suppress(OSError):
            client, _ = listener.accept()
            with client:
                client.settimeout(PATIENCE_S)
                _answer(client)


def _answer(client: socket.socket) -> None:
    received = b""
    until = monotonic() + PATIENCE_S  # all in all: one that drips would hold up the server proper
    while b"\r\n\r\n" not in received:
        piece = client.recv(4096)
        if not piece or len(received) > MOST_BYTES or monotonic() > until:
            return
        received += piece
    body = json.dumps(error_body(ERROR)).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: {RETRY_S}\r\nConnection: close\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    client.shutdown(socket.SHUT_WR)
    # A body that nobody has read would make the system throw the answer away.
    until = monotonic() + PATIENCE_S
    while monotonic() < until and client.recv(MOST_BYTES):
        pass
