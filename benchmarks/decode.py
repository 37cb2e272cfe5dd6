"""Prefill and decoding speed of each kernel backend, side by side, against what the machine's memory allows.

    .venv/bin/python benchmarks/decode.py
    .venv/bin/python benchmarks/decode.py --model FOLDER --rounds 9 --json

The backends take turns, round after round, so that a change of the machine's clock hits all of them alike;
a row is the median of the rounds. Decoding one token reads every active weight once, so the limit is the
measured speed of reading memory over the bytes of active weights. A model that fits into the processor's
cache can exceed that limit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import araio
from araio.costs.parameters import count_parameters
from araio.kernels.ops import IntArray
from araio.kernels.select import select
from araio.nn.model import Model
from araio.tensors import BFloat16, BlockFP8
from araio.weights.load import load_model
from araio.weights.locate import locate

BACKENDS = ("reference", "native")
MEMORY_BYTES = 512 << 20  # larger than any cache that counts
MEMORY_READS = 5


@dataclass(frozen=True)
class Row:
    """One measured speed; `ratio` is against `peer`, and a prefill row has no limit of memory."""

    name: str
    value: float
    unit: str
    peer: str
    ratio: float
    limit: float | None
    fraction_of_limit: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a bundled model or a folder")
    parser.add_argument("--prefill", type=int, default=256, help="tokens of the prompt")
    parser.add_argument("--decode", type=int, default=64, help="tokens decoded after it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()

    folder = locate(arguments.model)
    models = {backend: load_model(folder, select(backend).ops) for backend in BACKENDS}
    speeds = measure(models, arguments.prefill, arguments.decode, arguments.rounds)
    weight_bytes = active_weight_bytes(models[BACKENDS[0]])
    memory = memory_bytes_per_s()
    report = {
        "benchmark": "decode",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": arguments.model,
        "machine": machine(),
        "active_weight_bytes": weight_bytes,
        "memory_bytes_per_s": memory,
        "rows": [asdict(row) for row in rows(speeds, memory / weight_bytes)],
    }
    print(json.dumps(report, indent=2) if arguments.json else text(report))


def measure(models: dict[str, Model], prefill: int, decode: int, rounds: int) -> dict[tuple[str, str], float]:
    """Median tokens per second by phase and backend; the first round only warms up."""
    samples: dict[tuple[str, str], list[float]] = {}
    ids = np.random.default_rng(0).integers(0, next(iter(models.values())).config.vocab_size, prefill)
    for is_warm in [False] + [True] * rounds:
        for backend, model in models.items():
            prefill_s, decode_s = one_round(model, ids, decode)
            if is_warm:
                samples.setdefault(("prefill", backend), []).append(prefill / prefill_s)
                samples.setdefault(("decode", backend), []).append(decode / decode_s)
    return {key: statistics.median(values) for key, values in samples.items()}


def one_round(model: Model, ids: IntArray, decode: int) -> tuple[float, float]:
    """Seconds of one prompt, and of the greedy tokens behind it."""
    cache = model.new_cache()
    started = time.perf_counter()
    logits = model.logits(model.forward(ids, cache)[-1:])
    prefilled = time.perf_counter()
    for _ in range(decode):
        logits = model.logits(model.forward(logits.argmax(-1), cache, absorbed=True))
    return prefilled - started, time.perf_counter() - prefilled


def active_weight_bytes(model: Model) -> int:
    """Bytes of the weights that one token is multiplied with, as they lie in memory."""
    bytes_per_number = {BFloat16: 2, BlockFP8: 1}
    matrix = model.layers[-1].self_attn.o_proj.weight
    return count_parameters(model.config).model.active * bytes_per_number.get(type(matrix), 4)


def memory_bytes_per_s() -> float:
    """Best speed at which BLAS reads memory: the dot product of two large vectors."""
    x = np.ones(MEMORY_BYTES // 8, np.float32)
    y = np.ones_like(x)
    seconds = []
    for _ in range(MEMORY_READS):
        started = time.perf_counter()
        np.dot(x, y)
        seconds.append(time.perf_counter() - started)
    return MEMORY_BYTES / min(seconds)


def rows(speeds: dict[tuple[str, str], float], decode_limit: float) -> list[Row]:
    peer = BACKENDS[0]
    found = []
    for (phase, backend), speed in sorted(speeds.items()):
        limit = decode_limit if phase == "decode" else None
        fraction = speed / limit if limit else None
        ratio = speed / speeds[phase, peer]
        found.append(Row(f"{phase} {backend}", speed, "tok/s", f"{phase} {peer}", ratio, limit, fraction))
    return found


def machine() -> dict[str, str | int | None]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": names[0] if names else None, "cores": cores, "threads": os.environ.get("OMP_NUM_THREADS")}


def text(report: dict[str, Any]) -> str:
    place, memory, weights = report["machine"], report["memory_bytes_per_s"], report["active_weight_bytes"]
    lines = [
        f"{report['model']} on {place['cpu']}, {place['cores']} cores, {report['date']}",
        f"memory reads {memory / 1e9:.1f} GB/s; a token reads {weights / 1e6:.1f} MB of weights",
        f"{'':<20}{'tok/s':>10}{'ratio':>10}{'of limit':>10}",
    ]
    for row in report["rows"]:
        share = "" if row["fraction_of_limit"] is None else f"{row['fraction_of_limit']:.1%}"
        lines.append(f"{row['name']:<20}{row['value']:>10.1f}{row['ratio']:>9.2f}x{share:>10}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
