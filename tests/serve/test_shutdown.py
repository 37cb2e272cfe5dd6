"""`araio serve` ends in order: what runs may finish, what comes is refused, two signals end it at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2 as httpx
import pytest

from araio.testing.waiting import PATIENCE_S, eventually

DRAINING = ("--limit", "drain_s=3600")
"""Whoever ends sooner has not waited for what runs."""
MESSAGES = [{"role": "user", "content": "What is 47 + 38 - 12?"}]
ENDLESS = {"messages": MESSAGES, "stream": True, "max_tokens": 30_000, "logit_bias": {"1": -100}}


class Program:
    """`araio serve` as a program of its own."""

    def __init__(self, *options: str) -> None:
        command = [
            sys.executable,
            "-m",
            "araio",
            "serve",
            "--port",
            "0",
            "--json",
            "--threads",
            "1",
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read()
        self.url = json.loads(line)["url"]

    def signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.process.pid, number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=PATIENCE_S)

    def read(self) -> Reading:
        return Reading(self.url)


class Reading:
    """A stream that is read on a thread; `events` are those that came."""

    def __init__(self, url: str) -> None:
        self.events: list[str] = []
        self._url = url
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        eventually(lambda: len(self.events) > 3)

    def _read(self) -> None:
        url = f"{self._url}/v1/chat/completions"
        with (
            suppress(httpx.TransportError),
            httpx.stream("POST", url, json=ENDLESS, timeout=PATIENCE_S) as answer,
        ):
            self.events.extend(line for line in answer.iter_lines() if line.startswith("data: "))

    def last(self) -> Any:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.events[-1].removeprefix("data: ")


@pytest.fixture
def serve() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*options: str) -> Program:
        started.append(Program(*options))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_at_rest_ends_at_once(serve: Callable[..., Program], number: int) -> None:
    program = serve(*DRAINING)
    with httpx.Client(timeout=PATIENCE_S) as kept_alive:
        kept_alive.get(f"{program.url}/health")
        program.signal(number)
        assert program.wait() == 0
    assert program.process.stderr is not None
    assert "Traceback" not in program.process.stderr.read()


def test_what_runs_may_finish_and_what_comes_is_sent_elsewhere(serve: Callable[..., Program]) -> None:
    program = serve(*DRAINING)
    reading = program.read()
    assert program.get("/ready").status_code == 200
    program.signal()
    eventually(lambda: program.get("/ready").status_code == 503)
    refused = httpx.post(
        f"{program.url}/v1/chat/completions", json={"messages": MESSAGES}, timeout=PATIENCE_S
    )
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "draining"
    assert program.get("/health").status_code == 200
    before = len(reading.events)
    eventually(lambda: len(reading.events) > before)
    answer_id = json.loads(reading.events[0].removeprefix("data: "))["id"]
    control = {"id": answer_id, "action": "cancel"}
    assert (
        httpx.post(f"{program.url}/v1/chat/completions/control", json=control, timeout=PATIENCE_S).status_code
        == 200
    )
    assert program.wait() == 0
    assert json.loads(reading.last())["error"]["code"] == "cancelled"


def test_what_does_not_finish_in_time_ends_with_an_error(serve: Callable[..., Program]) -> None:
    program = serve("--limit", "drain_s=0.5")
    readings = [program.read() for _ in range(3)]
    program.signal()
    for reading in readings:
        error = json.loads(reading.last())["error"]
        assert error["type"] == "unavailable_error"
        assert error["code"] == "server_ended"
    assert program.wait() == 0
    assert program.process.stderr is not None
    told = [line for line in program.process.stderr if "about to end" in line]
    assert len(told) == 1, "whoever pressed Ctrl-C should know what is waited for"
    assert "under way: 3" in told[0]


def test_a_second_signal_ends_it_at_once(serve: Callable[..., Program]) -> None:
    program = serve(*DRAINING)
    program.read()
    program.signal()
    eventually(lambda: program.get("/ready").status_code == 503)
    assert program.process.poll() is None
    program.signal()
    assert program.wait() == 128 + signal.SIGTERM
