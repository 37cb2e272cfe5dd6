"""A client that goes away: its request ends early, streamed or not, in prefill or in decode.

How soon is a matter of the machine; here tokens are counted, of a request that would have run on for
many seconds.
"""

import json
import socket
import time
from contextlib import contextmanager

import pytest

from araio.testing.waiting import PATIENCE_S, eventually

ENDLESS = {"messages": [{"role": "user", "content": "Tell me a story."}], "temperature": 1.5, "seed": 3}
WORDS = 20_000
PROMPT = "word " * WORDS
"""Takes long to run, on one thread: a word is one token or more."""
TOKENS = 100_000


def send(live, path, body):
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(live.address, timeout=PATIENCE_S)
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def is_idle(live):
    state = live.service.model.engine.state()
    return state.running == state.waiting == 0 and live.service.pending == 0


@contextmanager
def counted(live):
    """Tokens that each step runs meanwhile."""
    tokens = []
    watcher = lambda step: tokens.append(sum(part.tokens for part in step.parts))  # noqa: E731
    live.service.model.engine.watch(watcher)
    try:
        yield tokens
    finally:
        live.service.model.engine.unwatch(watcher)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_client_that_goes_away_frees_its_place(live, stream, phase):
    eventually(lambda: is_idle(live))
    prompt, most = ("a b c", TOKENS) if phase == "decode" else (PROMPT, 10)
    body = {"prompt": prompt, "max_tokens": most, "stream": stream, "logit_bias": {"1": -100}}
    with counted(live) as steps:
        connection = send(live, "/v1/completions", body)
        # Behind the prompt, or in the middle of it.
        eventually(lambda: len(steps) > (10 if phase == "decode" else 2))
        assert not is_idle(live)
        connection.close()
        eventually(lambda: is_idle(live))
    assert sum(steps) < (TOKENS if phase == "decode" else WORDS) // 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_a_client_of_another_dialect_frees_its_place_too(live, path, stream):
    eventually(lambda: is_idle(live))
    messages = [{"role": "user", "content": PROMPT}]
    # Each of them takes what it knows.
    body = {"model": "pocket", "input": PROMPT, "messages": messages, "max_tokens": 9, "stream": stream}
    with counted(live) as steps:
        connection = send(live, path, body)
        eventually(lambda: steps)
        connection.close()
        eventually(lambda: is_idle(live))
    assert sum(steps) < WORDS // 2


def test_a_storm_of_clients_that_leave_leaves_nothing_behind(live, http):
    eventually(lambda: is_idle(live))
    body = {**ENDLESS, "max_tokens": 2000, "stream": True}
    for _ in range(4):
        connections = [send(live, "/v1/chat/completions", body) for _ in range(16)]
        time.sleep(0.05)
        for connection in connections:
            connection.close()
    eventually(lambda: is_idle(live))
    reply = http.post("/v1/chat/completions", json={"messages": ENDLESS["messages"], "max_tokens": 2})
    assert reply.status_code == 200
