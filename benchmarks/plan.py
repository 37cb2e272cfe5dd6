"""What `araio plan --hardware here` predicts, beside what is then measured: decoding and prompts, by shape.

    .venv/bin/python benchmarks/plan.py
    .venv/bin/python benchmarks/plan.py --models small-q4 lite-q4 --threads 1 2 --rounds 5 --json

The machine is measured before each model, in seconds, on matrices that belong to none; models have random
weights (`pocket` its own). Of both the best round counts, of a model's at least a second of rounds: others on
the machine only ever slow it down. The error is how far the prediction is from the measurement, as a share of
the measurement; what the aims are is in `docs/guides/plan.md`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from report import run

import araio
from araio.config import ModelConfig
from araio.costs.roofline import decode_timing, prefill_timing
from araio.costs.speeds import Speeds
from araio.costs.storage import Storage
from araio.costs.tiers import Load
from araio.eval.machine import this_machine
from araio.formats.store_layout import StoreCodecs
from araio.kernels.select import select
from araio.nn.model import Model
from araio.testing.machine import describe_processor
from araio.testing.random_weights import random_model
from araio.testing.shapes import lite, r1_slice, r1_small
from araio.testing.timer import SHORT_CONTEXT, ModelTimer
from araio.weights.load import load_model
from araio.weights.locate import locate

DECODED = 8  # steps of one run
LEAST_SECONDS = 1.0  # of the runs of a row, of which the best counts
BATCHES = (1, 4, 8, 16)
CONTEXTS = (1024, 4096)
PROMPTS = (32, 128, 512)


def smaller() -> ModelConfig:
    """`r1_small` at half its widths: 80M parameters."""
    return replace(
        r1_small(), hidden_size=512, intermediate_size=1408, moe_intermediate_size=128, vocab_size=4096
    )


SHAPES = {"smaller": smaller, "small": r1_small, "lite": lite, "r1-slice": r1_slice}
HEADER = f"{'':<14}{'threads':>8}{'batch':>7}{'context':>9}{'predicted':>11}{'measured':>10}{'error':>8}"
MODELS = (
    "pocket",
    *(f"{shape}-{codec}" for shape in ("smaller", "small") for codec in ("f32", "bf16", "fp8", "q8", "q4")),
    "lite-q4",
)


@dataclass(frozen=True)
class Row:
    """One prediction, both speeds in tokens per second."""

    model: str
    phase: str
    threads: int
    batch: int
    context: int
    predicted: float
    measured: float
    bound: str

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="SHAPE-CODEC, or pocket")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    run(parser, compare, text)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the machine, then every model on it."""
    rows = [row for name in arguments.models for row in rows_of(name, arguments.threads, arguments.rounds)]
    return {
        "benchmark": "plan",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe_processor(),
        "rounds": arguments.rounds,
        "summary": {phase: summary(rows, phase) for phase in ("decode", "prefill")},
        "rows": [asdict(row) | {"error": row.error} for row in rows],
    }


def rows_of(name: str, threads: list[int], rounds: int) -> Iterator[Row]:
    """Predictions first, so that the model's memory is not in the way of the machine's measurement."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "machine.json"
        rates = {count: this_machine(count, file=file).rates[count] for count in threads}
    config, model, storage = built(name)
    for count in threads:
        timer = ModelTimer(model, count)
        timer.prefill(max(PROMPTS))  # nothing is new to what is timed
        for load in loads(config):
            yield decoded(name, timer, rates[count], storage, load, rounds)
        for prompt in PROMPTS:
            load = Load(prompt=prompt, chunk=prompt)
            timing = prefill_timing(config, rates[count], load, storage)
            measured = prompt / best(partial(timer.prefill, prompt), rounds)
            yield Row(name, "prefill", count, 1, prompt, timing.tokens_per_s, measured, timing.bound)


def loads(config: ModelConfig) -> Iterator[Load]:
    """Batches after a short context, and one sequence after longer ones."""
    for batch in BATCHES:
        yield Load(batch=batch, context=SHORT_CONTEXT)
    for context in CONTEXTS:
        if context + DECODED <= config.max_position_embeddings:
            yield Load(batch=1, context=context)


def decoded(name: str, timer: ModelTimer, rates: Speeds, storage: Storage, load: Load, rounds: int) -> Row:
    def seconds() -> float:
        if load.batch > 1:
            return timer.decode_together(load.batch, DECODED)
        return timer.decode(DECODED, load.context)

    timing = decode_timing(
        timer.model.config, rates, replace(load, context=load.context + DECODED // 2), storage
    )
    seconds()
    measured = load.batch * DECODED / best(seconds, rounds)
    return Row(
        name, "decode", timer.threads, load.batch, load.context, timing.tokens_per_s, measured, timing.bound
    )


def best(seconds: Callable[[], float], rounds: int) -> float:
    """The least of so many runs, or of as many as `LEAST_SECONDS` hold: short ones are disturbed the most."""
    found = [seconds() for _ in range(rounds)]
    while sum(found) < LEAST_SECONDS:
        found.append(seconds())
    return min(found)


def built(name: str) -> tuple[ModelConfig, Model, Storage]:
    """A model in memory, and how its weights are stored there."""
    ops = select("native").ops
    if name == "pocket":
        model = load_model(locate(name), ops)
        return model.config, model, Storage.published(model.config)
    shape, codec = name.rsplit("-", 1)
    config = SHAPES[shape]()
    tables = "bf16" if codec == "fp8" else codec
    model = random_model(config, StoreCodecs(codec, codec, tables), ops)
    return config, model, Storage(codec, codec, tables)


def summary(rows: list[Row], phase: str) -> dict[str, float]:
    errors = sorted(abs(row.error) for row in rows if row.phase == phase)
    return {"rows": len(errors), "median_error": median(errors), "worst_error": errors[-1]}


def text(report: dict[str, Any]) -> str:
    lines = [
        f"predicted and measured on {report['machine']['name']}, {report['date']}, tokens/s",
        HEADER,
    ]
    lines += [line_of(row) for row in report["rows"]]
    lines += [
        f"{phase}: median error {found['median_error']:.0%}, worst {found['worst_error']:.0%}, "
        f"{found['rows']} rows"
        for phase, found in report["summary"].items()
    ]
    return "\n".join(lines)


def line_of(row: dict[str, Any]) -> str:
    what = f"{row['model']:<14}{row['threads']:>8}{row['batch']:>7}{row['context']:>9}"
    speeds = f"{row['predicted']:>11.2f}{row['measured']:>10.2f}{row['error']:>+8.0%}"
    return f"{what}{speeds}  {row['phase']}, {row['bound']}"


if __name__ == "__main__":
    main()
