"""What recording a trace costs: tokens per second with and without, side by side.

    .venv/bin/python benchmarks/trace.py
    .venv/bin/python benchmarks/trace.py --model FOLDER --rounds 31 --json

The two take turns, and each round's ratio compares neighbours, so that a busy machine hits both alike; a row
is the median of the rounds. `cpu` compares processor time, which other programs disturb less. Closing a
trace, which is done once, is timed by itself.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from report import run

import araio
from araio.engine.request import SamplingParams
from araio.testing.machine import describe_processor

PROMPT = 16


class Case(NamedTuple):
    """So many requests side by side, each with a prompt and an answer of so many tokens."""

    name: str
    requests: int
    prompt: int
    answer: int

    @property
    def tokens(self) -> int:
        return self.requests * (self.prompt + self.answer)


class Round(NamedTuple):
    """Seconds on the clock and of the processors."""

    wall_s: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a bundled model or a folder")
    parser.add_argument("--tokens", type=int, default=1024, help="of a round")
    parser.add_argument("--rounds", type=int, default=15)
    run(parser, compare, text)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and describe."""
    model = araio.load(arguments.model, speculate="off")
    tokens = arguments.tokens
    cases = [
        Case("decode, 1 sequence", 1, PROMPT, tokens),
        Case("decode, 8 sequences", 8, PROMPT, tokens // 2),
        Case("prefill", 1, 4 * tokens, 1),
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(model, case, arguments.rounds, Path(folder)) for case in cases]
    return {
        "benchmark": "trace",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": arguments.model,
        "machine": describe_processor(),
        "rounds": arguments.rounds,
        "rows": rows,
    }


def measure(model: araio.Model, case: Case, rounds: int, folder: Path) -> dict[str, Any]:
    """One case, with and without in turns; which comes first changes from round to round."""
    plain: list[Round] = []
    traced: list[Round] = []
    closing: list[float] = []

    def without() -> None:
        plain.append(timed(lambda: answer(model, case)))

    def recorded() -> None:
        out = folder / "x.moetrace"
        recording = model.trace(out)
        recording.start()
        traced.append(timed(lambda: answer(model, case)))
        started = time.perf_counter()
        recording.close()
        closing.append(time.perf_counter() - started)
        assert recording.tokens >= case.tokens - case.requests
        shutil.rmtree(out)

    answer(model, case)  # warm
    for number in range(rounds):
        for turn in (without, recorded) if number % 2 else (recorded, without):
            turn()
    pairs = list(zip(traced, plain, strict=True))
    return {
        "name": case.name,
        "unit": "tokens/s",
        "value": case.tokens / statistics.median(entry.wall_s for entry in traced),
        "peer": case.tokens / statistics.median(entry.wall_s for entry in plain),
        "slower": slower([ours.wall_s / theirs.wall_s for ours, theirs in pairs]),
        "slower_cpu": slower([ours.cpu_s / theirs.cpu_s for ours, theirs in pairs]),
        "close_s": statistics.median(closing),
    }


def slower(ratios: list[float]) -> list[float]:
    """By how much: the median of the rounds, and the quartiles below and above it."""
    low, median, high = (quarter - 1 for quarter in statistics.quantiles(ratios, n=4))
    return [median, low, high]


def answer(model: araio.Model, case: Case) -> None:
    """Run the requests of a case; each prompt is one that the cache does not hold."""
    vocabulary = model.config.vocab_size
    params = SamplingParams(max_tokens=case.answer, temperature=0.0)
    for number in range(case.requests):
        first = time.perf_counter_ns() // 1000 + number
        prompt = [1 + (first * 7919 + place * 104729) % (vocabulary - 1) for place in range(case.prompt)]
        model.engine.submit(prompt, params, [])
    while model.engine.step():
        pass


def timed(work: Callable[[], None]) -> Round:
    """How long something takes."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return Round(time.perf_counter() - wall_s, time.process_time() - cpu_s)


def text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['model']}: with a recording and without, {report['rounds']} rounds, {report['date']}",
        f"{report['machine']['name']}",
        f"{'':<22}{'recorded':>10}{'without':>10}{'slower by (quartiles)':>28}{'cpu':>28}{'closing':>10}",
    ]
    for row in report["rows"]:
        speeds = f"{row['value']:>10,.0f}{row['peer']:>10,.0f}"
        shares = f"{spread(row['slower']):>28}{spread(row['slower_cpu']):>28}"
        lines.append(f"{row['name']:<22}{speeds}{shares}{row['close_s'] * 1e3:>7,.0f} ms")
    return "\n".join(lines)


def spread(shares: list[float]) -> str:
    median, low, high = shares
    return f"{median:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
