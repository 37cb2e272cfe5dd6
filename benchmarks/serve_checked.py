"""Clients that behave, and that know what they must be told: `Checked`.

Each question has a seed, so its answer is one text whatever else a server does at that time, in a stream or
in one piece. The answers are asked for once, with nobody else there, and compared ever after. A client that
is turned away waits as long as it is told and comes back, as clients do.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from araio.errors import AraioError

__all__ = ["Checked", "Question", "WrongAnswerError", "questions"]

MOST_TURNS_AWAY = 20
PATIENCE_S = 120.0  # for one answer
LONGEST_WAIT_S = 30.0  # that a server may ask for


class WrongAnswerError(AraioError):
    """A well-formed request that was not answered as it must be."""


@dataclass(frozen=True, eq=False)
class Question:
    """A route, and the body that it is sent."""

    path: str
    body: Mapping[str, Any]


def questions(count: int) -> list[Question]:
    """Sums, each with a seed; every third one is plain text to be continued."""
    made = []
    for number in range(count):
        common = {"seed": number, "temperature": 0.8, "max_tokens": 40 + 5 * number}
        asked = f"What is {17 * number + 3} + {29 * number + 8}?"
        if number % 3 == 2:
            made.append(Question("/v1/completions", common | {"prompt": asked}))
        else:
            messages = [{"role": "user", "content": asked}]
            made.append(Question("/v1/chat/completions", common | {"messages": messages}))
    return made


@dataclass
class Checked:
    """What well-formed requests came to.

    answers   what each question must be answered
    counts    answers that were right, and requests that were turned away with a time to wait
    failures  what else happened, a line each
    """

    answers: dict[Question, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def learn(self, http: httpx2.AsyncClient, asked: Sequence[Question]) -> None:
        """Ask each question once, alone; raises WrongAnswerError."""
        for question in asked:
            self.answers[question] = await self._ask(http, question, stream=False)

    async def client(self, http: httpx2.AsyncClient, seed: int, until: asyncio.Event) -> None:
        """Ask one question after the other until the event is set, and keep what fails."""
        rng = random.Random(seed)
        asked = list(self.answers)
        while not until.is_set():
            question, stream = rng.choice(asked), rng.random() < 0.5
            try:
                text = await self._ask(http, question, stream)
                if text != self.answers[question]:
                    raise WrongAnswerError(f"{text!r} instead of {self.answers[question]!r}")
            except (WrongAnswerError, httpx2.HTTPError, json.JSONDecodeError, LookupError) as error:
                how = "in a stream" if stream else "in one piece"
                self.failures.append(f"{question.body} {how}: {type(error).__name__}: {error}")
            else:
                self.counts["right"] += 1

    async def _ask(self, http: httpx2.AsyncClient, question: Question, stream: bool) -> str:
        for _ in range(MOST_TURNS_AWAY):
            async with http.stream(
                "POST", question.path, json={**question.body, "stream": stream}, timeout=PATIENCE_S
            ) as response:
                data = await response.aread()
            if response.status_code == httpx2.codes.OK:
                return _streamed(data) if stream else _whole(json.loads(data)["choices"][0])
            wait = response.headers.get("retry-after")
            if response.status_code not in (429, 503) or wait is None:
                raise WrongAnswerError(
                    f"status {response.status_code}: {data[:500].decode(errors='replace')}"
                )
            self.counts["turned away"] += 1
            await asyncio.sleep(min(float(wait), LONGEST_WAIT_S))
        raise WrongAnswerError(f"turned away {MOST_TURNS_AWAY} times")


def _whole(choice: dict[str, Any]) -> str:
    told = choice.get("message") or choice
    parts = (told.get("reasoning_content"), told.get("content"), told.get("text"))
    return "\n".join([*(part or "" for part in parts), choice["finish_reason"]])


def _streamed(data: bytes) -> str:
    """The same of a stream; raises WrongAnswerError where it broke off."""
    lines = [line.removeprefix(b"data: ") for line in data.split(b"\n") if line.startswith(b"data: ")]
    if not lines or lines[-1] != b"[DONE]":
        raise WrongAnswerError(f"a stream ended with {data[-500:].decode(errors='replace')}")
    parts = {"reasoning_content": "", "content": "", "text": ""}
    reason = ""
    for line in lines[:-1]:
        chunk = json.loads(line)
        if "error" in chunk:
            raise WrongAnswerError(f"a stream broke off: {chunk['error']}")
        for choice in chunk["choices"]:
            delta = choice.get("delta") or choice
            for name in parts:
                parts[name] += delta.get(name) or ""
            reason = choice.get("finish_reason") or reason
    return "\n".join([*parts.values(), reason])
