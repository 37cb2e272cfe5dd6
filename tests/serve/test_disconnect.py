"""A client that goes away: its request ends within 200 ms, streamed or not, in prefill or in decode."""

import json
import socket
import time

import pytest

ENDLESS = {"messages": [{"role": "user", "content": "Tell me a story."}], "temperature": 1.5, "seed": 3}
PROMPT = "word " * 20_000
"""Takes long to run, on one thread."""


def send(live, path, body):
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(live.address, timeout=30)
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def wait_for(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.002)


def is_idle(live):
    state = live.service.model.engine.state()
    return state.running == state.waiting == 0 and live.service.pending == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_client_that_goes_away_frees_its_place(live, stream, phase):
    wait_for(lambda: is_idle(live), 30)
    if phase == "decode":
        connection = send(
            live,
            "/v1/completions",
            {"prompt": "a b c", "max_tokens": 100_000, "stream": stream, "logit_bias": {"1": -100}},
        )
        running = lambda: live.service.model.engine.state().running  # noqa: E731
        wait_for(running, 30)
        time.sleep(0.3)
    else:
        connection = send(live, "/v1/completions", {"prompt": PROMPT, "max_tokens": 10, "stream": stream})
        wait_for(lambda: live.service.model.engine.state().running, 30)
    assert not is_idle(live)
    connection.close()
    wait_for(lambda: is_idle(live), 0.2)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_a_client_of_another_dialect_frees_its_place_too(live, path, stream):
    wait_for(lambda: is_idle(live), 30)
    messages = [{"role": "user", "content": PROMPT}]
    # Each of them takes what it knows.
    body = {"model": "pocket", "input": PROMPT, "messages": messages, "max_tokens": 9, "stream": stream}
    connection = send(live, path, body)
    wait_for(lambda: live.service.model.engine.state().running, 30)
    connection.close()
    wait_for(lambda: is_idle(live), 0.2)


def test_a_storm_of_clients_that_leave_leaves_nothing_behind(live, http):
    wait_for(lambda: is_idle(live), 30)
    body = {**ENDLESS, "max_tokens": 2000, "stream": True}
    for _ in range(4):
        connections = [send(live, "/v1/chat/completions", body) for _ in range(16)]
        time.sleep(0.05)
        for connection in connections:
            connection.close()
    wait_for(lambda: is_idle(live), 2)
    reply = http.post("/v1/chat/completions", json={"messages": ENDLESS["messages"], "max_tokens": 2})
    assert reply.status_code == 200
