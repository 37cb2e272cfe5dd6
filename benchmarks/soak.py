"""A server for ten minutes: clients that behave, whose every answer is checked, among clients that do not.

    .venv/bin/python benchmarks/soak.py
    .venv/bin/python benchmarks/soak.py --minutes 1 --clients 8 --abusers 4 --json
    .venv/bin/python benchmarks/soak.py ~/models/lite-q4 --seed 3

It starts `araio serve` on a free port, learns the right answers while nobody else asks, and then has both
kinds of clients at it (`serve_checked.py`, `serve_abuse.py`). After a first part, everybody leaves, and what
the server takes at rest is the measure; when all is over and it rests again, it must take no more: memory,
open files, threads, pages of the cache. No well-formed request may fail, no request whatever may get an error
of the server's, nothing may stay open, and the log may have no traceback. The exit status says whether all of
that held: 0, or 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from peers.araio_server import AraioServer
from report import run
from serve_abuse import ABUSES, Target, verdict
from serve_checked import Checked, questions
from serve_watch import Sample, Watch

import araio
from araio.errors import AraioError
from araio.testing.machine import describe_processor

KEY, ABUSERS_KEY = "a-key-of-clients-that-behave", "a-key-of-clients-that-do-not"
QUESTIONS = 12
SAMPLE_S = 5.0
FIRST_PART = 0.2  # of the time, in which memory and threads may still grow
SHOWN_FAILURES = 5
TRACEBACK_CHARACTERS = 4000

# What a server at rest may take more than before: allocators and interpreters keep some of what they had.
ALLOWED = {"rss": 48 << 20, "fds": 2, "threads": 1, "processes": 0, "cache": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="pocket")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=16, help="that behave")
    parser.add_argument("--abusers", type=int, default=8, help="that do not")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of what they do")
    report = run(parser, lambda arguments: asyncio.run(soak(arguments)), text)
    sys.exit(0 if report["passed"] else 1)


async def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """Do all of it and describe it.

    Raises AraioError where the server does not start, ends, or never comes to rest.
    """
    environment = {"ARAIO_API_KEYS": f"{KEY},{ABUSERS_KEY}"}
    with AraioServer(arguments.model, arguments.threads, environment=environment) as server:
        async with _client(server.url) as http:
            checked, watch = Checked(), Watch(server.pid, http)
            await checked.learn(http, questions(QUESTIONS))
            crowd = Crowd(server.url, checked, watch, arguments)
            await crowd.work(60 * arguments.minutes * FIRST_PART)
            before = await watch.at_rest()
            await crowd.work(60 * arguments.minutes * (1 - FIRST_PART))
            after = await watch.at_rest()
        crowd.complaints += [f"the server's log: {entry}" for entry in tracebacks(server.printed())]
    growth = grown(before, watch.samples, after)
    return {
        "benchmark": "soak",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": arguments.model,
        "machine": describe_processor(),
        "threads": arguments.threads,
        "minutes": arguments.minutes,
        "clients": arguments.clients,
        "abusers": arguments.abusers,
        "seed": arguments.seed,
        "passed": not (checked.failures or crowd.complaints or any(one.is_too_much for one in growth)),
        "answers": dict(checked.counts),
        "failures": checked.failures,
        "abuse": {name: dict(sorted(counts.items())) for name, counts in crowd.outcomes.items()},
        "complaints": crowd.complaints,
        "growth": [asdict(one) | {"is_too_much": one.is_too_much} for one in growth],
        "samples": [asdict(one) for one in watch.samples],
    }


class Crowd:
    """Both kinds of clients.

    outcomes    of each abuse, how often what came of it
    complaints  what a server must not do to a client that misbehaves, a line each
    """

    def __init__(self, url: str, checked: Checked, watch: Watch, arguments: argparse.Namespace) -> None:
        self._url, self._target, self._checked, self._watch = url, _target(url), checked, watch
        self._clients, self._abusers = arguments.clients, arguments.abusers
        self._rng = random.Random(arguments.seed)
        self.outcomes: dict[str, Counter[str]] = {abuse.__name__: Counter() for abuse in ABUSES}
        self.complaints: list[str] = []

    async def work(self, seconds: float) -> None:
        """Everybody at it for so long; then they finish what they have begun."""
        over = asyncio.Event()
        try:
            # The clients' connections end with them: at rest, none may be left.
            async with _client(self._url) as http, asyncio.TaskGroup() as group:
                for _ in range(self._clients):
                    group.create_task(self._checked.client(http, self._rng.getrandbits(32), over))
                for _ in range(self._abusers):
                    group.create_task(self._abuser(self._rng.getrandbits(32), over))
                group.create_task(self._watch.until(over, SAMPLE_S))
                await asyncio.sleep(seconds)
                over.set()
        except* AraioError as errors:
            raise errors.exceptions[0] from None

    async def _abuser(self, seed: int, over: asyncio.Event) -> None:
        rng = random.Random(seed)
        while not over.is_set():
            abuse = rng.choice(ABUSES)
            try:
                outcome = await abuse(self._target, rng)
            except (OSError, TimeoutError) as error:  # refused, or left alone for ever
                outcome = f"{type(error).__name__}: {error}"
            self.outcomes[abuse.__name__][str(outcome)] += 1
            if not verdict(outcome):
                self.complaints.append(f"{abuse.__name__}: {outcome}")
            await asyncio.sleep(rng.random())


def tracebacks(log: str) -> list[str]:
    """What nobody caught, as a log has it."""
    _, *entries = log.split("Traceback (most recent call last)")
    return [entry.strip()[:TRACEBACK_CHARACTERS] for entry in entries]


@dataclass(frozen=True)
class Growth:
    """What a server takes at rest, `before` and `after`, and the most that it took between."""

    what: str
    before: float
    most: float
    after: float
    allowed: float

    @property
    def is_too_much(self) -> bool:
        return self.after > self.before + self.allowed


def grown(before: Sample, samples: Sequence[Sample], after: Sample) -> list[Growth]:
    """The growth of everything that must not grow."""
    first, last, all_of_them = asdict(before), asdict(after), [asdict(one) for one in samples]
    return [
        Growth(what, first[what], max(one[what] for one in all_of_them), last[what], allowed)
        for what, allowed in ALLOWED.items()
    ]


def text(report: dict[str, Any]) -> str:
    answers = report["answers"]
    lines = [
        f"{report['model']}, {report['minutes']:g} minutes, {report['clients']} clients that behave and "
        f"{report['abusers']} that do not, {report['date']}",
        f"{report['machine']['name']}, {report['threads']} threads",
        f"{answers.get('right', 0):,} answers right, {len(report['failures'])} requests failed, "
        f"{answers.get('turned away', 0)} were turned away and came back",
        "",
        f"{'abuse':<20}what came of it",
    ]
    for name, counts in report["abuse"].items():
        lines.append(f"{name:<20}" + ", ".join(f"{what}: {count}" for what, count in counts.items()))
    lines += ["", f"{'at rest':<20}{'before':>12}{'most':>12}{'after':>12}{'allowed':>12}"]
    for one in report["growth"]:
        shown = "".join(_shown(one["what"], one[at]) for at in ("before", "most", "after", "allowed"))
        lines.append(f"{one['what']:<20}{shown}{'  too much' if one['is_too_much'] else ''}")
    for what in ("failures", "complaints"):
        lines += [f"{what[:-1]}: {line}" for line in report[what][:SHOWN_FAILURES]]
    return "\n".join([*lines, "", "passed" if report["passed"] else "failed"])


def _shown(what: str, value: float) -> str:
    if what == "rss":
        return f"{value / 1e6:>9.1f} MB"
    return f"{value:>12.1%}" if what == "cache" else f"{value:>12.0f}"


def _client(url: str) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {KEY}"}
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncClient(base_url=url, headers=headers, limits=limits, trust_env=False)


def _target(url: str) -> Target:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Target(parts.hostname, parts.port, ABUSERS_KEY)


if __name__ == "__main__":
    main()
