"""Clients that mean no good, or do not know better, against a real model: the server stays what it was."""

from __future__ import annotations

import gc
import json
import random
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from araio.serve.app import create_app
from araio.serve.guard import OPEN_FOLDER, OPEN_PATHS
from araio.testing.waiting import PATIENCE_S, eventually

KEY = "first-key"
CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "What is 47 + 38 - 12?"}]
MIB = 1 << 20
MOST_WORK_S = 10
"""Of the processor, which does not grow when others keep it busy."""


def connect(server: Any) -> socket.socket:
    client = socket.create_connection(server.address, timeout=PATIENCE_S)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets
    return client


def send_chat(client: socket.socket, **given: Any) -> None:
    body = json.dumps({"messages": MESSAGES, **given}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def post(server: Any, content: bytes, path: str = CHAT) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return httpx.post(f"{server.url}{path}", content=content, headers=headers, timeout=PATIENCE_S)


def answers(server: Any) -> None:
    """A well-formed request is answered well."""
    reply = httpx.post(
        f"{server.url}{CHAT}", json={"messages": MESSAGES, "max_tokens": 3}, timeout=PATIENCE_S
    )
    assert reply.status_code == 200, reply.text


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def memory() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


@pytest.fixture
def as_before(start_live: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Starts a server which behind the test has to be as it was: files, memory, requests; and it answers."""
    server: Any = None
    before = {"files": 0, "memory": 0}

    def start(first: Callable[[Any], object] = answers) -> Any:
        nonlocal server
        server = start_live()
        # Whatever is loaded on first use, and the memory that is kept for the next time, is not counted.
        answers(server)
        first(server)
        before.update(files=open_files(), memory=memory())
        return server

    yield start
    answers(server)
    state = server.service.model.engine.state
    eventually(lambda: (state().running, state().waiting) == (0, 0))
    eventually(lambda: len(server.server.server_state.connections) == 0)
    eventually(lambda: open_files() <= before["files"])
    assert server.service.pending == 0
    assert memory() - before["memory"] < 96 * MIB  # what a heap in pieces keeps; each thread has one


def routes_of(router: Any) -> Iterator[Any]:
    """Every route, those of included routers too."""
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from routes_of(included)
        else:
            yield route


def test_every_route_needs_a_key_but_health_and_the_page(start_live: Callable[..., Any]) -> None:
    server = start_live(keys=(KEY,))
    app = create_app(server.service)
    found = {(method, route.path) for route in routes_of(app) for method in route.methods}
    assert {("GET", "/metrics"), ("POST", CHAT), ("GET", "/openapi.json"), ("GET", "/ready")} <= found
    open_ones = set()
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        for method, path in sorted(found):
            concrete = path.replace("{name}", "main.js").replace("{model_id:path}", "pocket")
            assert "{" not in concrete, "a kind of path that this test does not know"
            if client.request(method, concrete, json={}).status_code == 401:
                reply = client.request(method, concrete, json={}, headers={"x-api-key": KEY})
                assert reply.status_code not in (401, 403, 500)
            else:
                open_ones.add((method, path))
    assert ("GET", "/health") in open_ones
    assert all(
        method in ("GET", "HEAD") and (path in OPEN_PATHS or path.startswith(OPEN_FOLDER))
        for method, path in open_ones
    )


def test_a_thousand_idle_connections(as_before: Callable[..., Any]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    server = as_before()
    with ExitStack() as stack:
        for number in range(1000):
            client = stack.enter_context(connect(server))
            if number % 2:
                with suppress(OSError):  # it may have been told already that there is no room
                    client.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        time.sleep(1.2)
        assert len(server.server.server_state.connections) <= server.service.settings.connections
        for _ in range(5):
            answers(server)


def test_clients_that_hang_up_by_the_hundred(as_before: Callable[..., Any]) -> None:
    server, draw = as_before(), random.Random(7)
    for _ in range(10):
        clients = [connect(server) for _ in range(20)]
        for number, client in enumerate(clients):
            long = "Count to a hundred. " * 200 if number % 4 == 0 else MESSAGES[0]["content"]
            messages = [{"role": "user", "content": long}]
            send_chat(client, messages=messages, stream=number % 2 == 0, max_tokens=2000, seed=number)
        time.sleep(draw.random() * 0.1)
        for client in clients:
            client.close()
    eventually(lambda: server.service.pending == 0)


@pytest.mark.parametrize("given", [{"stream": True}, {"stream": False}, {"prompt": 3000}], ids=str)
def test_a_client_that_leaves_frees_its_place_soon(live: Any, given: dict[str, Any]) -> None:
    words = given.pop("prompt", 0)
    messages = [{"role": "user", "content": "five and " * words + "six"}]
    state = live.service.model.engine.state
    with connect(live) as client:
        send_chat(client, messages=messages, max_tokens=20_000, logit_bias={"1": -100}, **given)
        eventually(lambda: state().running == 1)
        time.sleep(0.02)
    eventually(lambda: state().running == 0)


def test_bodies_that_never_end(as_before: Callable[..., Any]) -> None:
    server = as_before()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    piece = b" " * (1 << 16)
    for length, wrap in (
        (f"Content-Length: {50 * MIB}", lambda piece: piece),
        ("Transfer-Encoding: chunked", lambda piece: b"%x\r\n%b\r\n" % (len(piece), piece)),
    ):
        with connect(server) as client:
            client.sendall(f"{head}{length}\r\n\r\n".encode())
            with suppress(ConnectionError):
                for _ in range(50 * MIB // len(piece)):
                    client.sendall(wrap(piece))
            assert b" 413 " in client.recv(1 << 16)


BIG = 8 * MIB - 4096

HOSTILE = {
    "deep": b"[" * 200_000,
    "deep in a field": b'{"messages": ' + b'[{"content":' * 50_000,
    "numbers for messages": b'{"messages": [' + b"0," * 390_000 + b"0]}",
    "objects for messages": b'{"messages": [' + b"{}," * 90_000 + b"{}]}",
    "strings for stop": b'{"messages": [], "stop": [' + b'"a",' * 390_000 + b'"a"]}',
    "objects for stop": b'{"messages": [], "stop": [' + b"{}," * 90_000 + b"{}]}",
    "keys without end": b"{" + b",".join(b'"k%d":0' % number for number in range(390_000)) + b"}",
    "one long number": b'{"messages": [], "max_tokens": ' + b"9" * BIG + b"}",
    "one long fraction": b'{"messages": [], "top_p": 0.' + b"9" * BIG + b"}",
    "one long string": b'{"messages": [{"role": "user", "content": "' + b"x " * (BIG // 2) + b'"}]}',
    "one long word": b'{"messages": [{"role": "user", "content": "' + b"x" * BIG + b'"}]}',
    "one long role": b'{"messages": [{"role": "' + b"x" * BIG + b'"}]}',
    "escapes": b'{"messages": [{"role": "user", "content": "' + b"\\u0000" * 200_000 + b'"}]}',
    "half a pair": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "biases that are none": b'{"messages": [], "logit_bias": {'
    + b",".join(b'"k%d":""' % number for number in range(390_000))
    + b"}}",
    "a bias for everything": b'{"messages": [], "logit_bias": {'
    + b",".join(b'"%d":1' % number for number in range(390_000))
    + b"}}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_documents_that_cost_more_than_they_hold(as_before: Callable[..., Any], name: str) -> None:
    server = as_before(lambda server: post(server, HOSTILE[name]))
    began = time.process_time()
    reply = post(server, HOSTILE[name])
    assert time.process_time() - began < MOST_WORK_S
    post(server, HOSTILE[name])  # what one leaves behind could be taken for a heap in pieces
    assert reply.status_code in ((200, 400) if name == "half a pair" else (400,)), reply.text[:300]
    if reply.status_code == 400:
        assert len(reply.content) < 4096
        assert reply.json()["error"].keys() >= {"message", "type", "param", "code"}


ELSEWHERE = {
    "/v1/completions": b'{"prompt": %b}',
    "/tokenize": b'{"prompt": %b}',
    "/detokenize": b'{"tokens": %b}',
    "/v1/messages": b'{"max_tokens": 1, "messages": %b}',
    "/v1/responses": b'{"input": %b}',
}


@pytest.mark.parametrize("path", ELSEWHERE)
@pytest.mark.parametrize("value", [b"[" + b"0," * 390_000 + b"0]", b'"' + b"ab " * 2_500_000 + b'"'], ids=len)
def test_other_routes_refuse_them_too(live: Any, path: str, value: bytes) -> None:
    began = time.process_time()
    reply = post(live, ELSEWHERE[path] % value, path)
    assert time.process_time() - began < MOST_WORK_S
    assert reply.status_code == 400
    assert len(reply.content) < 4096


NUMBERS = """
    max_tokens max_completion_tokens temperature top_p top_k min_p seed n presence_penalty frequency_penalty
    repetition_penalty top_logprobs thinking_token_budget
"""
EXTREMES = [
    "-1",
    "0",
    "1e400",
    "-1e400",
    "1e308",
    "NaN",
    "Infinity",
    "-Infinity",
    "true",
    '"1"',
    "[]",
    "{}",
    "1.5",
] + [
    str(sign * 2**power + step) for power in (31, 32, 63, 64, 200) for sign in (1, -1) for step in (-1, 0, 1)
]


@pytest.mark.parametrize("name", NUMBERS.split())
def test_numbers_at_their_extremes(live: Any, name: str) -> None:
    messages = json.dumps(MESSAGES)
    with httpx.Client(base_url=live.url, timeout=PATIENCE_S) as client:
        for value in EXTREMES:
            bound = "" if name in ("max_tokens", "max_completion_tokens") else ', "max_tokens": 2'
            if bound == "" and value in ("2147483647",):
                continue
            content = f'{{"messages": {messages}, "logprobs": true, "{name}": {value}{bound}}}'
            reply = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
            assert reply.status_code in (200, 400), (value, reply.text)
            if reply.status_code == 400:
                assert reply.json()["error"]["message"]
