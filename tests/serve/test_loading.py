"""What clients are told while a model is being loaded."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from araio.serve.loading import answer_loading
from araio.serve.server import bind
from araio.testing.waiting import PATIENCE_S


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_whoever_asks_is_told_to_come_again() -> None:
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    with bind("127.0.0.1", 0) as listener, answer_loading(listener):
        for _ in range(3):
            with socket.create_connection(listener.getsockname(), timeout=PATIENCE_S) as client:
                client.sendall(request + b" " * 9)
                client.shutdown(socket.SHUT_WR)
                head, _, body = read_all(client).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: " in head
            error: dict[str, Any] = json.loads(body)["error"]
            assert (error["code"], error["type"]) == ("loading", "unavailable_error")


def test_a_client_that_drips_does_not_hold_up_the_server() -> None:
    end = time.monotonic() + PATIENCE_S
    with bind("127.0.0.1", 0) as listener, answer_loading(listener):
        client = socket.create_connection(listener.getsockname(), timeout=PATIENCE_S)
        with client, pytest.raises(OSError):  # noqa: PT012 - it is cut off at some time
            while time.monotonic() < end:
                client.sendall(b"x")
                time.sleep(0.1)
