"""Clients that measure a server: each sends a prompt, takes the answer as it streams, and sends the next.

What is told of a request has the names that guidellm gives it:

    TTFT  seconds from sending a request to its first token
    ITL   seconds between one token and the next; a chunk that brings several counts as one
    TPOT  seconds from sending a request to its last token, for each of its tokens

All clients run in one event loop, on the processors that the server has too: what they take is the same for
every server, and small beside a model. An answer with another length than was asked for is an error, since
its time would mean something else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from araio.errors import AraioError

__all__ = ["Answered", "Load", "ServeError", "drive"]

PREFIX, DONE = b"data: ", b"[DONE]"


class ServeError(AraioError):
    """A server that refuses a request, or answers with other than what was asked for."""


@dataclass(frozen=True)
class Answered:
    """One request and its answer; times are seconds of the same clock.

    arrivals  of each chunk that brought text
    first     the text of the first of them
    """

    begun: float
    arrivals: tuple[float, ...]
    first: str
    prompt_tokens: int
    tokens: int

    @property
    def ttft(self) -> float:
        return self.arrivals[0] - self.begun

    @property
    def itl(self) -> list[float]:
        return [after - before for before, after in zip(self.arrivals, self.arrivals[1:], strict=False)]

    @property
    def tpot(self) -> float:
        return (self.arrivals[-1] - self.begun) / self.tokens


@dataclass(frozen=True)
class Load:
    """What is sent.

    prompts  token ids, by client and by turn
    tokens   of each answer
    banned   ids that are not to be answered: those that would end it early
    """

    prompts: Sequence[Sequence[Sequence[int]]]
    tokens: int
    banned: Sequence[int]

    def bodies(self, model: str) -> list[list[dict[str, Any]]]:
        """The requests, by client and by turn."""
        common = {
            "model": model,
            "max_tokens": self.tokens,
            "temperature": 0,
            "logit_bias": {str(token): -100 for token in self.banned},
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return [[common | {"prompt": list(map(int, one))} for one in turns] for turns in self.prompts]


def drive(url: str, load: Load) -> list[Answered]:
    """Send everything, each client one request after the other, and all clients at a time.

    Raises ServeError.
    """
    return asyncio.run(_drive(url, load))


async def _drive(url: str, load: Load) -> list[Answered]:
    # A connection for each request: llama-server ends some that were used, just when the next one is sent.
    limits = httpx2.Limits(max_connections=len(load.prompts), max_keepalive_connections=0)
    # No proxy of the environment's, and no time limit: a long prompt on a small machine takes minutes.
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=None, trust_env=False) as http:
        model = (await http.get("/v1/models")).json()["data"][0]["id"]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_client(http, turns)) for turns in load.bodies(model)]
        except* ServeError as errors:
            raise errors.exceptions[0] from None
    return [answered for task in tasks for answered in task.result()]


async def _client(http: httpx2.AsyncClient, bodies: Sequence[dict[str, Any]]) -> list[Answered]:
    try:
        return [await _ask(http, body) for body in bodies]
    except httpx2.HTTPError as error:
        raise ServeError(f"{http.base_url} broke off: {error!r}") from error


async def _ask(http: httpx2.AsyncClient, body: dict[str, Any]) -> Answered:
    arrivals: list[float] = []
    first, usage = "", None
    begun = time.perf_counter()
    async with http.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != httpx2.codes.OK:
            told = (await response.aread()).decode(errors="replace")
            raise ServeError(f"{response.url} answered with status {response.status_code}: {told}")
        async for at, chunk in _chunks(response):
            if "error" in chunk:
                raise ServeError(f"{response.url} broke off: {chunk['error']}")
            text = "".join(choice["text"] for choice in chunk["choices"])
            if text:
                arrivals.append(at)
                first = first or text
            usage = chunk.get("usage") or usage
    if usage is None or usage["completion_tokens"] != body["max_tokens"]:
        raise ServeError(f"{response.url}: {body['max_tokens']} tokens were asked for, and usage is {usage}")
    return Answered(begun, tuple(arrivals), first, usage["prompt_tokens"], usage["completion_tokens"])


async def _chunks(response: httpx2.Response) -> AsyncIterator[tuple[float, dict[str, Any]]]:
    """Each event of a stream with the time at which its bytes arrived."""
    rest = b""
    async for data in response.aiter_raw():
        at = time.perf_counter()
        *lines, rest = (rest + data).split(b"\n")
        for chunk in _events(lines):
            yield at, chunk


def _events(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith(PREFIX) and not line.startswith(PREFIX + DONE):
            yield json.loads(line.removeprefix(PREFIX))
