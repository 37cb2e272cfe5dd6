"""A server around a toy app, on a thread, and raw sockets to it; the bundled model's answers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest

import araio
from araio.engine.answer import Step, ToolCallDelta
from araio.engine.transcript import timed
from araio.serve.drain import Drain
from araio.serve.guard import Guard
from araio.serve.launch import server_of
from araio.serve.server import Server, bind
from araio.serve.service import Service
from araio.serve.settings import Settings
from araio.testing.waiting import PATIENCE_S


@dataclass
class Reply:
    """What came back on a socket: all of it, parsed as one answer."""

    raw: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __post_init__(self) -> None:
        head, _, self.body = self.raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1]) if first else 0
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]


class Toy:
    """An app of a few routes, under the guard, on a server of its own thread.

    GET /health, GET /       answered at once
    POST /echo               how long the body was
    POST /flood              more bytes than any socket holds
    POST /wait               answered when `gate` is opened
    POST /count              sends a number each 10 ms until nobody listens; those who listen are `listeners`
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(port=0, **settings)
        self.drain = Drain(self.settings.drain_s)
        self.refused: list[str] = []
        self.listeners = 0
        self.gate = threading.Event()
        self._ready = threading.Event()
        guard = Guard(self._app, self.settings, self.drain, self.refused.append)
        self.server = Server(guard, self.settings, self.drain, self._ready.set)
        self._socket = bind(self.settings.host, 0)
        self.address = self._socket.getsockname()[:2]
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],), daemon=True)

    def start(self) -> Toy:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def stop(self) -> None:
        self.gate.set()
        self.drain.seconds = 0
        self.drain.begin()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(PATIENCE_S)
        client.connect(self.address)
        return client

    def send(self, *lines: str, body: bytes = b"") -> Reply:
        """One request as it is written here, with `Connection: close`; the blank line is added."""
        head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
        with self.connect() as client:
            client.sendall(head + body)
            return Reply(read_all(client))

    def reply(self, client: socket.socket) -> Reply:
        """The next answer on a connection that stays open; its length must be stated."""
        raw = b""
        while b"\r\n\r\n" not in raw and (piece := client.recv(1 << 16)):
            raw += piece
        reply = Reply(raw)
        while len(reply.body) < int(reply.headers.get("content-length", 0)):
            reply.body += client.recv(1 << 16)
        return reply

    def get(self, path: str, *headers: str) -> Reply:
        return self.send(f"GET {path} HTTP/1.1", "Host: localhost", *headers)

    def post(self, path: str, body: bytes = b"{}", *headers: str) -> Reply:
        first = (f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}")
        return self.send(*first, *headers, body=body)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        match scope["path"]:
            case "/flood":
                await _answer(send, b"x" * (32 << 20))
            case "/echo":
                await _answer(send, b"%d" % len((await receive())["body"]))
            case "/wait":
                while not self.gate.is_set():
                    await asyncio.sleep(0.01)
                await _answer(send, b"done")
            case "/count":
                await self._count(receive, send)
            case path:
                await _answer(send, path.encode())

    async def _count(self, receive: Any, send: Any) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        self.listeners += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while not gone.done():
                await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
                await asyncio.sleep(0.01)
        finally:
            self.listeners -= 1
            gone.cancel()


async def _answer(send: Any, body: bytes) -> None:
    length = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes, or resets, the connection."""
    pieces = []
    with suppress(ConnectionResetError):  # what came before it is the answer
        while piece := client.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture
def toy() -> Iterator[Callable[..., Toy]]:
    """Starts toys with these settings; they are stopped behind the test."""
    started: list[Toy] = []

    def start(**settings: Any) -> Toy:
        started.append(Toy(**settings).start())
        return started[-1]

    yield start
    for each in started:
        each.stop()


class Live:
    """A model behind everything that `araio serve` has, on a thread of its own."""

    def __init__(
        self, model: str | Path | araio.Model = "pocket", max_batch: int = 16, **settings: Any
    ) -> None:
        if not isinstance(model, araio.Model):
            model = araio.load(model, threads=1, max_batch=max_batch)
        self.service = Service(model, Settings(port=0, **settings))
        ready = threading.Event()
        self.server = server_of(self.service, ready.set)
        listener = bind("127.0.0.1", 0)
        self.address = listener.getsockname()[:2]
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.thread = threading.Thread(target=self.server.run, args=([listener],), daemon=True)
        self.thread.start()
        assert ready.wait(PATIENCE_S)

    def stop(self) -> None:
        self.server.drain.seconds = 0
        self.server.drain.begin()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """One server for all tests that do not need their own."""
    server = Live()
    yield server
    server.stop()


@pytest.fixture
def start_live() -> Iterator[Callable[..., Live]]:
    """Starts servers with other settings; they are stopped behind the test."""
    started: list[Live] = []

    def start(model: str | Path | araio.Model = "pocket", **settings: Any) -> Live:
        started.append(Live(model, **settings))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def http(live: Live) -> Iterator[httpx.Client]:
    """A client of the session's server."""
    with httpx.Client(base_url=live.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="session")
def client(live: Live) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of it, which does not try again what fails."""
    with openai.OpenAI(
        base_url=f"{live.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


@pytest.fixture(scope="session")
def pocket():
    return araio.load("pocket", threads=1)


@pytest.fixture(scope="session")
def answered(pocket):
    """Steps of an answer with their log-probabilities, and the answer."""
    generation = pocket.prepare("What is 47 + 38 - 12?", seed=0, logprobs=2)
    tokens = timed(pocket.engine.tokens(generation.job))
    return [generation.take(token, seconds) for token, seconds in tokens], generation.answer()


@pytest.fixture(scope="session")
def answered_with_calls(answered):
    """The same, ending in two calls, the second of them cut off."""
    steps, answer = answered
    pieces = [
        ToolCallDelta(0, "call_a", "add", ""),
        ToolCallDelta(0, None, None, '{"a": 1,'),
        ToolCallDelta(0, None, None, ' "b": [2]}'),
        ToolCallDelta(1, "call_b", "sub", '{"a": 1, "b": "c'),
    ]
    calls = [Step(0, [piece], None, False, None) for piece in pieces]
    return [*steps, *calls], replace(answer, finish_reason="tool_calls")
