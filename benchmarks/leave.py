"""How soon a client that hangs up frees its place: in prefill and in decoding, streamed or not.

    .venv/bin/python benchmarks/leave.py
    .venv/bin/python benchmarks/leave.py --model FOLDER --times 50 --json

One client asks for far more than there is time for and closes its connection in the middle; `/metrics` is
asked until nothing runs or waits. What asking takes, a few milliseconds, is part of the time.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import time
from typing import Any
from urllib.parse import urlsplit

import httpx2
from peers.araio_server import AraioServer
from report import run
from serve_watch import gauge

import araio
from araio.errors import AraioError
from araio.testing.machine import describe_processor

LIMIT_MS = 200.0
PATIENCE_S = 120.0
MOST_WORDS = 20_000
"""Of a prompt that takes long to run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a bundled model or a folder")
    parser.add_argument("--times", type=int, default=20, help="that a client leaves, of each kind")
    parser.add_argument("--threads", type=int, default=2)
    run(parser, measure, text)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and describe."""
    rows = []
    with (
        AraioServer(arguments.model, arguments.threads) as server,
        httpx2.Client(base_url=server.url, timeout=PATIENCE_S) as http,
    ):
        room = int(http.get("/v1/models").raise_for_status().json()["data"][0]["max_model_len"])
        asked = {
            "prefill": {"prompt": "word " * min(MOST_WORDS, room // 3), "max_tokens": 1},
            "decode": {"prompt": "word", "max_tokens": room // 2, "ignore_eos": True},
        }
        for phase, body in asked.items():
            for stream in (True, False):
                freed = [leave(server.url, http, body, stream, turn) for turn in range(arguments.times + 1)]
                rows.append(row(phase, stream, freed[1:]))
    return {
        "benchmark": "leave",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": arguments.model,
        "machine": describe_processor(),
        "limit_ms": LIMIT_MS,
        "rows": rows,
    }


def leave(url: str, http: httpx2.Client, asked: dict[str, Any], stream: bool, turn: int) -> float:
    """Milliseconds from hanging up until the server is idle."""
    # No two prompts begin alike, so that none is in the cache.
    body = json.dumps(asked | {"prompt": f"{turn} {asked['prompt']}", "stream": stream}).encode()
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port))
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    wait(http, is_idle=False)
    time.sleep(0.02 * (turn % 5))  # not always at the same place
    closed = time.perf_counter()
    connection.close()
    wait(http, is_idle=True)
    return (time.perf_counter() - closed) * 1e3


def wait(http: httpx2.Client, *, is_idle: bool) -> None:
    """Until something runs, or nothing does any more."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        told = http.get("/metrics").raise_for_status().text
        busy = gauge(told, "num_requests_running") + gauge(told, "num_requests_waiting")
        if (busy == 0) == is_idle:
            return
    raise AraioError(
        f"the server was {'busy' if is_idle else 'idle'} for {PATIENCE_S:.0f} s; it should not be"
    )


def row(phase: str, stream: bool, freed_ms: list[float]) -> dict[str, Any]:
    return {
        "name": f"{phase}, {'streamed' if stream else 'in one piece'}",
        "unit": "ms",
        "value": statistics.median(freed_ms),
        "most": max(freed_ms),
        "times": len(freed_ms),
        "within": sum(one <= LIMIT_MS for one in freed_ms),
    }


def text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['model']}: from hanging up to a free place, {report['date']}",
        report["machine"]["name"],
        f"{'':<24}{'median':>10}{'longest':>10}{f'within {LIMIT_MS:.0f} ms':>20}",
    ]
    for one in report["rows"]:
        times = f"{one['value']:>7.0f} ms{one['most']:>7.0f} ms"
        lines.append(f"{one['name']:<24}{times}{one['within']:>13} of {one['times']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
