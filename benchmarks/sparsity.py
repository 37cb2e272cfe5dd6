"""More experts, as many of them for each token: what stays flat for one user, and where that ends.

    .venv/bin/python benchmarks/sparsity.py
    .venv/bin/python benchmarks/sparsity.py --experts 8 32 128 --batches 1 16 --threads 1 --rounds 7
    .venv/bin/python benchmarks/sparsity.py --plot docs/assets/sparsity.svg --json

A token chooses 8 experts whether there are 8 or 256 (`growing` of araio.testing.shapes). Beside each model
stands its dense twin: the same weights in the same memory, every token given to all experts. Weights are
random; in q4 those of 256 experts take 4 GB, of all models 7 GB, and all take turns. Time is measured.
Experts touched are counted from the routers' choices, and bytes follow from them in closed form. Joules are
the meter's, whose method the report names.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from report import run

import araio
from araio.config import ModelConfig
from araio.costs.parameters import count_parameters
from araio.costs.storage import Storage
from araio.costs.traffic import decode_bytes
from araio.formats.store_layout import StoreCodecs
from araio.kernels.select import select
from araio.meters.meter import Meter, choose_meter
from araio.testing.machine import describe_processor, read_bandwidth
from araio.testing.random_weights import random_model
from araio.testing.shapes import growing
from araio.testing.timer import SHORT_CONTEXT, ModelTimer

CHOSEN = 8
STEPS = 16  # of one run; fewer for large batches, whose steps take longer
LEAST_STEPS = 2
MODES = ("sparse", "dense")


@dataclass
class Cell:
    """One model at one batch, and what its rounds gave.

    config   says how many of the model's experts a token is given to
    touched  distinct experts of a layer in a step, on average
    """

    mode: str
    config: ModelConfig
    batch: int
    timer: ModelTimer
    touched: float = 0.0
    seconds: list[float] = field(default_factory=list)  # of a token
    joules: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return max(LEAST_STEPS, STEPS // self.batch)

    def run(self) -> float:
        """Seconds of all steps."""
        for router in self.timer.model.routers:
            router.config = self.config
        return self.timer.decode_together(self.batch, self.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--experts", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--codec", default="q4", help="of all matrices (default: q4)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="also draw the rows, into an .svg or .png")
    run(parser, compare, text)


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure all cells in turns, and describe them."""
    meter = choose_meter()
    codecs = StoreCodecs(*[asked.codec] * 3)
    cells = []
    for experts in asked.experts:
        model = random_model(growing(experts, CHOSEN), codecs, select("native").ops)
        timer = ModelTimer(model, asked.threads)
        for mode, chosen in zip(MODES, (CHOSEN, experts), strict=True):
            cells += [Cell(mode, growing(experts, chosen), batch, timer) for batch in asked.batches]
    bandwidth = []
    for cell in cells:
        count_experts(cell)
    for _ in range(asked.rounds):
        for cell in cells:
            take_turn(cell, meter)
        bandwidth.append(read_bandwidth(asked.threads))
    rows = [row(cell, Storage(**asdict(codecs))) for cell in cells]
    report = {
        "benchmark": "sparsity",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe_processor(),
        "threads": asked.threads,
        "rounds": asked.rounds,
        "codec": asked.codec,
        "read_bandwidth": statistics.median(bandwidth),
        "joules_method": meter.method,
        "rows": rows,
    }
    if asked.plot is not None:
        from sparsity_plot import draw  # matplotlib is needed for the picture alone

        draw(report, asked.plot)
    return report


def count_experts(cell: Cell) -> None:
    """Run once, to warm up and to see what the routers choose."""
    touched: list[int] = []
    model = cell.timer.model
    model.on_route = lambda layer, ids, weights: touched.append(len(np.unique(ids)))
    cell.run()
    model.on_route = None
    cell.touched = statistics.mean(touched)


def take_turn(cell: Cell, meter: Meter) -> None:
    """Time one run."""
    started = meter.mark()
    seconds = cell.run()
    ended = meter.mark()
    # The window also made the caches; what it drew on average counts for the seconds that are timed.
    watts = meter.between(started, ended).joules / (ended.seconds - started.seconds)
    tokens = cell.batch * cell.steps
    cell.seconds.append(seconds / tokens)
    cell.joules.append(watts * seconds / tokens)


def row(cell: Cell, storage: Storage) -> dict[str, Any]:
    """What a cell's rounds come to, for one token."""
    counted = count_parameters(cell.config, storage).model
    context = SHORT_CONTEXT + cell.steps // 2
    read = decode_bytes(cell.config, cell.batch, context, storage, cell.touched)
    return {
        "mode": cell.mode,
        "experts": cell.config.n_routed_experts,
        "batch": cell.batch,
        "parameters": counted.total,
        "active": counted.active,
        "experts_touched": cell.touched,
        "seconds": statistics.median(cell.seconds),
        "seconds_low": min(cell.seconds),
        "seconds_high": max(cell.seconds),
        "bytes": read.total / cell.batch,
        "joules": statistics.median(cell.joules),
    }


def text(report: dict[str, Any]) -> str:
    """A table for each batch, and how much each quantity grew."""
    lines = [
        f"{CHOSEN} experts a token, {report['codec']}, {report['threads']} threads, {report['date']}",
        f"{report['machine']['name']}, reading memory at {report['read_bandwidth'] / 1e9:.1f} GB/s; "
        f"joules by {report['joules_method']}",
    ]
    for batch in sorted({row["batch"] for row in report["rows"]}):
        lines += ["", f"batch {batch:<8}{'sparse':>18}{'touched':>24}{'dense':>10}", HEADER]
        pairs = list(zip(*(column(report, batch, mode) for mode in MODES), strict=True))
        lines += [
            f"{sparse['experts']:>7}{sparse['parameters'] / 1e9:>7.2f}B {figures(sparse)}"
            f"{sparse['experts_touched']:>10.1f}   {figures(dense)}"
            for sparse, dense in pairs
        ]
        (first, first_dense), (last, last_dense) = pairs[0], pairs[-1]
        lines.append(f"{'growth':>15} {growth(first, last)}{'':>13}{growth(first_dense, last_dense)}")
    return "\n".join(lines)


HEADER = (
    f"{'experts':>7}{'total':>8} " + f"{'ms':>9}{'MB':>9}{'J':>9}{'':>13}" + f"{'ms':>9}{'MB':>9}{'J':>9}"
)


def column(report: dict[str, Any], batch: int, mode: str) -> list[dict[str, Any]]:
    """The rows of one batch and mode, from few experts to many."""
    rows = [row for row in report["rows"] if (row["batch"], row["mode"]) == (batch, mode)]
    return sorted(rows, key=lambda row: int(row["experts"]))


def figures(row: dict[str, Any]) -> str:
    return f"{row['seconds'] * 1e3:>9.2f}{row['bytes'] / 1e6:>9.1f}{row['joules']:>9.4f}"


def growth(first: dict[str, Any], last: dict[str, Any]) -> str:
    """Of each quantity, in its column."""
    return "".join(f"{last[name] / first[name]:>8.2f}x" for name in ("seconds", "bytes", "joules"))


if __name__ == "__main__":
    main()
