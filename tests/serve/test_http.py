"""Connections: too large, too slow, too many, malformed, and clients that do not read."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from araio.errors import RequestError
from araio.serve import http
from araio.serve.server import bind
from araio.testing.waiting import PATIENCE_S, eventually

POST_COUNT = b"POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


def ask(server: Any, client: socket.socket) -> int:
    client.sendall(REQUEST + b"\r\n")
    status: int = server.reply(client).status
    return status


def is_closed(client: socket.socket, within_s: float) -> bool:
    client.settimeout(within_s)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("size", [70_000, 200_000, 1_000_000, 20_000_000])
def test_headers_that_are_too_large(toy: Callable[..., Any], size: int) -> None:
    server = toy()
    with server.connect() as client:
        with suppress(ConnectionError):  # the server does not read to the end
            client.sendall(REQUEST + b"X-Large: " + b"x" * size + b"\r\n\r\n")
        reply = server.reply(client)
    assert reply.status == 431
    assert reply.error["type"] == "invalid_request_error"


def test_many_small_headers_count_together(toy: Callable[..., Any]) -> None:
    server = toy(header_bytes=4096)
    assert server.get("/health", *(f"X-{number}: 1" for number in range(50))).status == 200
    assert server.get("/health", *(f"X-{number}: 1" for number in range(500))).status == 431
    assert server.get("/" + "x" * 5000).status == 431


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /hea lth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        REQUEST + b"Content-Length: -1\r\n\r\n",
        REQUEST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        REQUEST + b"Transfer-Encoding: gzip\r\n\r\n",
        REQUEST + b"X: \x00\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_an_error_in_our_shape(toy: Callable[..., Any], request_bytes: bytes) -> None:
    server = toy()
    with server.connect() as client:
        client.sendall(request_bytes)
        reply = server.reply(client)
    assert reply.status in (400, 501)
    assert reply.error.keys() == {"message", "type", "param", "code"}


def test_a_body_that_is_not_http_ends_its_request(toy: Callable[..., Any]) -> None:
    server = toy()
    with server.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 400 ")
    eventually(lambda: not server.server.server_state.tasks)


def test_garbage_behind_a_stream_ends_it(toy: Callable[..., Any]) -> None:
    server = toy()
    with server.connect() as client:
        client.sendall(
            b"POST /count HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert client.recv(100)
        client.sendall(b"\x00" * 100_000)
    eventually(lambda: server.listeners == 0)


def test_half_sent_requests_are_ended(toy: Callable[..., Any]) -> None:
    server = toy(header_s=1)
    silent, half, later = (server.connect() for _ in range(3))
    with silent, half, later:
        assert ask(server, later) == 200
        half.sendall(REQUEST)
        later.sendall(REQUEST)
        for client in (half, later):
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 408 ")
        for client in (silent, half, later):
            assert is_closed(client, PATIENCE_S)


def test_dripping_headers_do_not_gain_time(toy: Callable[..., Any]) -> None:
    server = toy(header_s=0.4)
    end = time.monotonic() + PATIENCE_S
    with server.connect() as client:
        client.settimeout(0.05)
        answer = b""
        client.sendall(REQUEST)
        while not answer and time.monotonic() < end:
            client.sendall(b"X: 1\r\n")
            try:
                answer = client.recv(1 << 16)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_connection_serves_many_requests_and_rests_so_long(toy: Callable[..., Any]) -> None:
    server = toy(idle_s=3, header_s=1)
    with server.connect() as client:
        for _ in range(2):
            assert ask(server, client) == 200
            time.sleep(1.2)  # longer than headers may take: it has not begun to send any
        client.sendall((REQUEST + b"\r\n") * 3)  # without waiting for answers
        answers = b""
        while answers.count(b"/health") < 3:
            answers += client.recv(1 << 16)
        assert is_closed(client, PATIENCE_S)


def test_a_refused_body_does_not_cost_the_answer(toy: Callable[..., Any]) -> None:
    server = toy(body_bytes=4096)
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with server.connect() as client:
        # All of it is sent before the answer is read, and the connection is good for another request.
        client.sendall(head % 5_000_000 + b"x" * 5_000_000)
        assert server.reply(client).status == 413
        assert ask(server, client) == 200


def test_a_refused_body_without_end_is_cut_off(toy: Callable[..., Any]) -> None:
    server = toy(body_bytes=4096)
    end = time.monotonic() + PATIENCE_S
    with server.connect() as client, pytest.raises(OSError):  # noqa: PT012 - whichever of the two comes first
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        while time.monotonic() < end:
            client.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            time.sleep(0.01)


def test_resting_connections_make_room(toy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LEAST_REST_S", PATIENCE_S)
    server = toy(connections=4)
    resting = [server.connect() for _ in range(4)]
    try:
        assert ask(server, resting[0]) == 200
        with server.connect() as client:  # the others are too new to be closed
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
        monkeypatch.setattr(http, "LEAST_REST_S", 0)
        for _ in range(3):
            with server.connect() as client:
                assert ask(server, client) == 200
        assert sum(is_closed(client, 0.5) for client in resting) >= 1
    finally:
        for client in resting:
            client.close()


def test_those_that_have_never_asked_make_room_first(toy: Callable[..., Any]) -> None:
    server = toy(connections=3)
    with server.connect() as known, server.connect() as silent, server.connect() as half:
        assert ask(server, known) == 200
        half.sendall(REQUEST)
        time.sleep(1.1)
        for _ in range(2):
            with server.connect() as client:
                assert ask(server, client) == 200
                assert ask(server, known) == 200
        assert is_closed(silent, 0.5) or is_closed(half, PATIENCE_S)


def test_working_connections_do_not_make_room(toy: Callable[..., Any]) -> None:
    server = toy(connections=2)
    working = [server.connect() for _ in range(2)]
    for client in working:
        client.sendall(POST_COUNT)
        assert client.recv(1 << 16)
    time.sleep(1.1)
    with server.connect() as client:
        answer = client.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 2" in answer.lower()
    assert b'"unavailable_error"' in answer
    for client in working:
        assert client.recv(1 << 16)
        client.close()
    eventually(lambda: server.listeners == 0)


def test_a_reader_that_takes_nothing_is_dropped(toy: Callable[..., Any]) -> None:
    server = toy(stall_s=0.3)
    with server.connect(receive_buffer=4096) as client:
        client.sendall(b"POST /flood HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert client.recv(1)  # it has begun
        eventually(lambda: not server.server.server_state.connections)


def test_a_reader_that_is_only_slow_is_not(toy: Callable[..., Any]) -> None:
    server = toy(stall_s=2)
    with server.connect(receive_buffer=4096) as client:
        client.sendall(b"POST /flood HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        taken = 0
        end = time.monotonic() + 3
        while time.monotonic() < end:
            taken += len(client.recv(1 << 16))
            time.sleep(0.001)
        while piece := client.recv(1 << 20):
            taken += len(piece)
            if taken > 32 << 20:
                break
    assert taken > 32 << 20


def test_a_client_that_leaves_is_noticed(toy: Callable[..., Any]) -> None:
    server = toy()
    with server.connect() as client:
        client.sendall(POST_COUNT)
        assert client.recv(1 << 16)
        assert server.listeners == 1
    eventually(lambda: server.listeners == 0)


def test_a_port_that_is_taken_is_told() -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RequestError, match=f"port {port}.*--port"):
            bind("127.0.0.1", port)
    for host in ("no.such.host.invalid", "203.0.113.7"):
        with pytest.raises(RequestError, match=host):
            bind(host, 0)
