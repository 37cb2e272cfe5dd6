"""What the clients do that a server must live with: `ABUSES`, each a few lines over a bare socket.

None of them is to be answered well. A server may refuse with a status of its own, or close the connection;
`verdict` says whether what it did is all right. What must not happen is an error of the server's, or a
connection that stays open for ever. `soak.py` lets them run beside clients that behave.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["ABUSES", "CLOSED", "LEFT", "Abuse", "Target", "verdict"]

CLOSED, LEFT = "closed", "left"
"""What became of a request instead of a status: the server closed the connection, or the client left."""

PATIENCE_S = 60.0  # for a server to refuse or to close
REST_S = 0.5  # of a slow reader between two reads; ten times of who sends nothing
SLOW_READS = 20
CHAT = "/v1/chat/completions"
MEBIBYTE = 1 << 20

Outcome: TypeAlias = int | str
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


@dataclass(frozen=True)
class Target:
    """The server.

    key  of those who misuse it, which is another than that of those who do not
    """

    host: str
    port: int
    key: str

    def head(self, length: int | None, **headers: str) -> bytes:
        """The beginning of a request for an answer; chunked where no length is given."""
        size = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        fields = {
            "Host": f"{self.host}:{self.port}",
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            **size,
            **headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {CHAT} HTTP/1.1\r\n{lines}\r\n".encode()

    def request(self, body: bytes) -> bytes:
        """A whole request."""
        return self.head(len(body)) + body


Abuse: TypeAlias = Callable[[Target, random.Random], Awaitable[Outcome]]


def verdict(outcome: Outcome) -> bool:
    """Whether a server may do that to a client that misbehaves: refuse, be too busy, close; but not fail."""
    return outcome in (CLOSED, LEFT, 503) or (isinstance(outcome, int) and outcome < 500)


# ---------------------------------------------------------------------- clients that leave


async def leave_stream(target: Target, rng: random.Random) -> Outcome:
    """Hang up in the middle of a stream."""
    async with _connected(target) as (reader, writer):
        writer.write(target.request(_question(rng, stream=True)))
        await reader.read(rng.randrange(1, 4096))
        return LEFT


async def leave_unanswered(target: Target, rng: random.Random) -> Outcome:
    """Hang up while an answer in one piece is computed."""
    async with _connected(target) as (_, writer):
        writer.write(target.request(_question(rng, stream=False)))
        await asyncio.sleep(rng.random() / 4)
        return LEFT


async def leave_in_prefill(target: Target, rng: random.Random) -> Outcome:
    """Hang up while a long prompt is read."""
    async with _connected(target) as (_, writer):
        long = " ".join(str(rng.randrange(1000)) for _ in range(4000))
        writer.write(target.request(_question(rng, stream=rng.random() < 0.5, content=long)))
        await writer.drain()
        await asyncio.sleep(rng.random() / 4)
        return LEFT


async def read_slowly(target: Target, rng: random.Random) -> Outcome:
    """Take a few bytes a second of a long stream, through the smallest buffer that there is."""
    async with _connected(target, receive_bytes=1) as (reader, writer):
        writer.write(target.request(_question(rng, stream=True)))
        for _ in range(SLOW_READS):
            await asyncio.sleep(REST_S)
            if not await reader.read(16):
                return CLOSED
        return LEFT


# ---------------------------------------------------------------------- senders


async def stop_sending(target: Target, rng: random.Random) -> Outcome:
    """Send half of the headers, or half of a body, and wait."""
    whole = target.request(_question(rng, stream=False))
    async with _connected(target) as (reader, writer):
        writer.write(whole[: rng.randrange(1, len(whole) - 1)])
        return await _outcome(reader)


async def send_nothing(target: Target, rng: random.Random) -> Outcome:
    """Open connections and keep them."""
    async with _connected(target), _connected(target), _connected(target):
        await asyncio.sleep(10 * REST_S * rng.random())
        return LEFT


async def send_huge_body(target: Target, rng: random.Random) -> Outcome:
    """50 MB of JSON, with its length told or not."""
    text = b'{"messages": [{"role": "user", "content": "' + b"x" * (50 * MEBIBYTE)
    is_chunked = rng.random() < 0.5
    async with _connected(target) as (reader, writer):
        with suppress(ConnectionError):
            writer.write(target.head(None if is_chunked else len(text)))
            for start in range(0, len(text), MEBIBYTE):
                piece = text[start : start + MEBIBYTE]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
                await writer.drain()
        return await _outcome(reader)


async def send_huge_header(target: Target, _: random.Random) -> Outcome:
    """20 MB of one header."""
    async with _connected(target) as (reader, writer):
        with suppress(ConnectionError):
            writer.write(target.head(2, Cookie="x" * (20 * MEBIBYTE)) + b"{}")
            await writer.drain()
        return await _outcome(reader)


# ---------------------------------------------------------------------- bodies


async def send_no_json(target: Target, rng: random.Random) -> Outcome:
    """What is no JSON, or none that is meant."""
    bodies = [b"", b"{", b"[]", b"null", b'{"messages": [NaN]}', b"\xff\xfe", b"[" * 100_000]
    bodies += [b'{"messages": []}', b'{"messages": [{"role": "king", "content": "x"}]}', b'{"n": 1, "n": 2}']
    return await _ask(target, rng.choice(bodies))


async def ask_too_much(target: Target, rng: random.Random) -> Outcome:
    """A field far out of its range."""
    fields: list[Mapping[str, Any]] = [
        {"n": 5_000_000},
        {"logprobs": True, "top_logprobs": 10**9},
        {"max_tokens": -1},
        {"max_tokens": 2**63},
        {"temperature": 1e308},
        {"temperature": True},
        {"top_p": -1},
        {"seed": 2**70},
        {"stop": ["x"] * 100_000},
        {"stop": "x" * 100_000},
        {"logit_bias": {str(2**40): 1}},
        {"thinking_token_budget": -5},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": _deep(200)}}},
    ]
    question = json.loads(_question(rng, stream=rng.random() < 0.5))
    return await _ask(target, json.dumps(question | rng.choice(fields)).encode())


ABUSES: tuple[Abuse, ...] = (
    leave_stream,
    leave_unanswered,
    leave_in_prefill,
    read_slowly,
    stop_sending,
    send_nothing,
    send_huge_body,
    send_huge_header,
    send_no_json,
    ask_too_much,
)


# ---------------------------------------------------------------------- parts


def _question(rng: random.Random, *, stream: bool, content: str = "") -> bytes:
    message = {
        "role": "user",
        "content": content or f"What is {rng.randrange(1000)} + {rng.randrange(1000)}?",
    }
    return json.dumps({"messages": [message], "max_tokens": 2000, "stream": stream}).encode()


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


async def _ask(target: Target, body: bytes) -> Outcome:
    async with _connected(target) as (reader, writer):
        writer.write(target.request(body))
        return await _outcome(reader)


async def _outcome(reader: Reader) -> Outcome:
    """The status that comes back; CLOSED where none does. Raises TimeoutError where nothing happens."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = await reader.readline()
    except ConnectionError:
        return CLOSED
    return int(line.split()[1]) if line.startswith(b"HTTP/") else CLOSED


@asynccontextmanager
async def _connected(
    target: Target, receive_bytes: int | None = None
) -> AsyncIterator[tuple[Reader, Writer]]:
    """A connection that ends with a reset, as that of a client that is gone; it may end before, too."""
    end = socket.socket()
    if receive_bytes is not None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    end.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(end, (target.host, target.port))
        reader, writer = await asyncio.open_connection(sock=end, limit=4096)
    except BaseException:
        end.close()
        raise
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
