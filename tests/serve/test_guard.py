"""What a request passes before a route sees it, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from araio.errors import RequestError
from araio.serve.nesting import MAX_CONTAINERS, MAX_DEPTH, MAX_VALUES, nesting_failure
from araio.serve.origins import Origins
from araio.serve.settings import Settings
from araio.testing.waiting import eventually

KEY = "first-key"
WITH_KEY = f"Authorization: Bearer {KEY}"


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("localhost", True),
        ("LocalHost:8484", True),
        ("127.0.0.1:1", True),
        ("127.9.9.9", True),
        ("[::1]:8484", True),
        ("chat.example", True),
        ("10.0.0.7:80", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("chat.example.evil", False),
        ("192.168.0.1", False),
        ("user@localhost", False),
        ("localhost/evil", False),
        ("localhost:port", False),
        ("0.0.0.0", False),
        ("2130706433", False),
        ("", False),
        ("[::1", False),
        ("lücke", False),
    ],
)
def test_names_that_a_server_answers_to(host: str, is_allowed: bool) -> None:
    origins = Origins("0.0.0.0", ["chat.example"])
    assert origins.allows_host(host.encode(), "10.0.0.7") is is_allowed


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("http://localhost:3000", True),
        ("https://127.0.0.1", True),
        ("http://[::1]:5173", True),
        ("http://box.example:8484", True),
        ("https://chat.example", True),
        ("http://box.example:80", False),
        ("http://chat.example", False),
        ("https://chat.example.evil", False),
        ("https://evil.example", False),
        ("null", False),
        ("file://", False),
        ("moz-extension://localhost", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_pages_that_may_ask(origin: str, is_allowed: bool) -> None:
    origins = Origins("box.example", origins=["https://chat.example/"])
    assert origins.allows_origin(origin.encode(), b"box.example:8484") is is_allowed


def test_a_star_allows_every_name_and_page() -> None:
    origins = Origins("127.0.0.1", ["*"], ["*"])
    assert origins.allows_host(b"any.example", None)
    assert origins.allows_origin(b"null", b"localhost")


@pytest.mark.parametrize("host", ["*", "models.example", "BOX", "10.0.0.7", "[::1]", "2001:db8::1"])
def test_hosts_that_can_be_allowed(host: str) -> None:
    Settings(hosts=(host,))


@pytest.mark.parametrize("host", ["http://models.example", "box:8484", "box/", "user@box", ""])
def test_a_host_that_no_request_can_have_is_refused(host: str) -> None:
    with pytest.raises(RequestError, match="Host"):
        Settings(hosts=(host,))


@pytest.mark.parametrize("origin", ["*", "null", "https://chat.example/", "http://box:3000", "app://notes"])
def test_origins_that_can_be_allowed(origin: str) -> None:
    Settings(origins=(origin,))


@pytest.mark.parametrize("origin", ["chat.example", "https://chat.example/talk", "https://", "http://[", ""])
def test_an_origin_that_no_page_can_have_is_refused(origin: str) -> None:
    with pytest.raises(RequestError, match="origin"):
        Settings(origins=(origin,))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "2001:db8::1", "box.example", ""])
def test_others_may_reach_it_only_where_there_are_keys(host: str) -> None:
    with pytest.raises(RequestError, match="key"):
        Settings(host=host)
    Settings(host=host, keys=(KEY,))
    for loopback in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        Settings(host=loopback)


def test_strangers_are_refused_before_anything_else(toy: Callable[..., Any]) -> None:
    server = toy(keys=(KEY,))
    rebound = server.send("GET /health HTTP/1.1", "Host: evil.example:8484")
    assert "'evil.example'" in rebound.error["message"], "what --allow-host would take"
    foreign = server.get("/health", "Origin: https://evil.example", WITH_KEY)
    for reply, reason in ((rebound, "host"), (foreign, "origin")):
        assert reply.status == 403
        assert reply.error["type"] == "permission_error"
        assert reply.error["code"] == reason
        assert "access-control-allow-origin" not in reply.headers
    assert server.send("GET /health HTTP/1.0").status == 400
    assert server.refused == ["host", "origin", "host"]


def test_a_page_that_may_ask_is_told_so(toy: Callable[..., Any]) -> None:
    server = toy(keys=(KEY,), origins=("https://chat.example",))
    origin = "Origin: https://chat.example"
    first = ("OPTIONS /echo HTTP/1.1", "Host: localhost", origin)
    asked = server.send(
        *first, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-a, content-type"
    )
    assert asked.status == 204
    assert asked.headers["access-control-allow-origin"] == "https://chat.example"
    assert asked.headers["access-control-allow-headers"] == "x-a, content-type"
    assert "POST" in asked.headers["access-control-allow-methods"]
    # An answer can be read by the page, and so can a refusal.
    for reply in (server.post("/echo", b"{}", origin, WITH_KEY), server.post("/echo", b"{}", origin)):
        assert reply.headers["access-control-allow-origin"] == "https://chat.example"
        assert reply.headers["vary"] == "origin"
    assert "access-control-allow-origin" not in server.post("/echo", b"{}", WITH_KEY).headers
    # Only a browser's own question needs no key.
    assert server.send(*first).status == 401


def test_every_path_but_the_open_ones_needs_a_key(toy: Callable[..., Any]) -> None:
    server = toy(keys=("other-key", KEY))
    for path in ("/", "/health"):
        assert server.get(path).status == 200
        assert server.post(path).status == 401
    for path in (
        "/metrics",
        "/ready",
        "/no-such-path",
        "//",
        "/health/",
        "/%2e%2e/health",
        "/Health",
        "/docs",
    ):
        assert server.get(path).status == 401
        assert server.get(path, WITH_KEY).status == 200
        assert server.get(path, f"x-api-key: {KEY}").status == 200
        wrong = server.get(path, "Authorization: Bearer wrong-key")
        assert wrong.status == 401
        assert wrong.headers["www-authenticate"] == "Bearer"
        assert wrong.error.keys() == {"message", "type", "param", "code"}
        assert wrong.error["type"] == "authentication_error"


def test_a_key_has_so_many_requests_under_way(toy: Callable[..., Any]) -> None:
    server = toy(keys=(KEY, "other-key"), per_key=2)
    replies: list[Any] = []
    threads = [
        threading.Thread(target=lambda: replies.append(server.post("/wait", b"{}", WITH_KEY)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: server.drain.running == 2)
    busy = server.post("/echo", b"{}", WITH_KEY)
    assert busy.status == 429
    assert int(busy.headers["retry-after"]) >= 1
    assert busy.error["type"] == "rate_limit_error"
    assert server.post("/echo", b"{}", "x-api-key: other-key").status == 200
    assert server.get("/ready", WITH_KEY).status == 200
    assert server.post("/v1/chat/completions/control", b"{}", WITH_KEY).status == 200
    server.gate.set()
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [200, 200]
    assert server.post("/echo", b"{}", WITH_KEY).status == 200


def test_without_keys_only_the_queue_has_a_limit(toy: Callable[..., Any]) -> None:
    server = toy(per_key=1)
    waiting = [threading.Thread(target=server.post, args=("/wait",)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    eventually(lambda: server.drain.running == 3)
    assert server.post("/echo").status == 200
    server.gate.set()
    for thread in waiting:
        thread.join()


def test_a_server_that_is_about_to_end_sends_new_requests_elsewhere(toy: Callable[..., Any]) -> None:
    server = toy()
    replies: list[Any] = []
    waiting = threading.Thread(target=lambda: replies.append(server.post("/wait")))
    waiting.start()
    eventually(lambda: server.drain.running)
    server.drain.begin()
    for reply in (server.get("/ready"), server.post("/echo")):
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.error["type"] == "unavailable_error"
    for path in ("/health", "/metrics", "/"):
        assert server.get(path).status == 200
    server.gate.set()
    waiting.join()
    assert replies[0].status == 200


def test_a_body_has_a_limit_however_it_is_sent(toy: Callable[..., Any]) -> None:
    server = toy(body_bytes=2048)
    first = ("POST /echo HTTP/1.1", "Host: localhost")
    assert server.post("/echo", b" " * 2048).body == b"2048"
    announced = server.send(*first, "Content-Length: 2049")
    huge = server.send(*first, f"Content-Length: {'9' * 4000}")
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    whole = server.send(*first, "Transfer-Encoding: chunked", body=chunk * 2 + b"0\r\n\r\n")
    chunked = server.send(*first, "Transfer-Encoding: chunked", body=chunk * 3 + b"0\r\n\r\n")
    assert whole.body.endswith(b"2048")
    for reply in (announced, chunked, huge):
        assert reply.status in (400, 413)
        assert reply.error["type"] == "invalid_request_error"
    assert (announced.status, chunked.status) == (413, 413)


def test_a_body_has_its_time(toy: Callable[..., Any]) -> None:
    server = toy(body_s=0.3)
    with server.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        assert b" 408 " in client.recv(1000)
    assert server.refused == ["body_time"]


def test_a_body_that_is_not_wanted_is_not_asked_for(toy: Callable[..., Any]) -> None:
    server = toy(body_bytes=2048)
    first = "POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    with server.connect() as client:
        client.sendall(f"{first}Content-Length: 2\r\n\r\n".encode())
        assert b" 100 " in client.recv(1000)
        client.sendall(b"{}")
        assert b" 200 " in client.recv(1000)
    with server.connect() as client:
        client.sendall(f"{first}Content-Length: 4000\r\n\r\n".encode())
        assert b" 413 " in client.recv(1000)


DEEP = b"[" * (MAX_DEPTH + 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (DEEP + b"]" * len(DEEP), "deeper"),
        (b'{"a":' * 90_000, "deeper"),
        (b"[" * 90_000, "deeper"),
        (b"[" * 200_000, "200,000 lists"),
        (b'{"text": "' + DEEP * 9 + b'"}', None),
        (b'{"text": "\\"' + DEEP * 9 + b'"}', None),
        (b'{"text": "\\\\"' + DEEP, "deeper"),
        (b'{"text": "\\\\\\"' + DEEP * 9, None),
        (b"[]," * (MAX_CONTAINERS + 1), "100,001 lists"),
        (b"[" + b"0," * MAX_VALUES + b"0]", None),
        (b"[" + b"0," * (MAX_VALUES + 1) + b"0]", "400,001 values"),
        (b'{"text": "' + b"a," * (MAX_VALUES + 1) + b'"}', None),
        (("[" * 99).encode("utf-16"), "zero"),
        ('["∀",'.encode("utf-16-le") + ("[" * 99).encode("utf-16-le"), "zero"),
        (("[" * 99).encode("utf-32"), "zero"),
        (b"", None),
    ],
)
def test_nesting_is_told_from_the_bytes(body: bytes, reason: str | None) -> None:
    failure = nesting_failure(body)
    assert (failure is None) if reason is None else (failure is not None and reason in failure)


def test_a_deep_document_is_refused(toy: Callable[..., Any]) -> None:
    server = toy()
    reply = server.post("/echo", b"[" * 200_000)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
