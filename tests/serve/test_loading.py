"""What clients are told while a model is being loaded."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from typing import Any

from araio.serve.loading import answer_loading
from araio.serve.server import bind


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_whoever_asks_is_told_to_come_again() -> None:
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    with bind("127.0.0.1", 0) as listener, answer_loading(listener):
        for _ in range(3):
            with socket.create_connection(listener.getsockname(), timeout=5) as client:
                client.sendall(request + b" " * 9)
                client.shutdown(socket.SHUT_WR)
                head, _, body = read_all(client).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: " in head
            error: dict[str, Any] = json.loads(body)["error"]
            assert (error["code"], error["type"]) == ("loading", "unavailable_error")


def test_a_client_that_drips_does_not_hold_up_the_server() -> None:
    with bind("127.0.0.1", 0) as listener:
        with answer_loading(listener):
            began = time.monotonic()
            with socket.create_connection(listener.getsockname(), timeout=5) as client, suppress(OSError):
                while time.monotonic() - began < 8:
                    client.sendall(b"x")
                    time.sleep(0.1)
        assert time.monotonic() - began < 6
