"""Prefill and decoding speed of the compiled kernels beside the reference, against what memory allows.

    .venv/bin/python benchmarks/decode.py
    .venv/bin/python benchmarks/decode.py --model FOLDER --rounds 9 --json

The backends take turns, round after round, so that a change of the machine's clock hits both alike; a row is
the median of the rounds. The compiled kernels use `ARAIO_THREADS`, NumPy its own. `araio bench` measures
a model without a peer, and with more choice.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import Any

from report import run, table

import araio
from araio.eval.speed import active_weight_bytes, cases_for
from araio.kernels.select import select
from araio.testing.machine import describe_processor
from araio.testing.timer import ModelTimer
from araio.testing.turns import measure
from araio.weights.load import load_model, open_checked
from araio.weights.locate import locate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a bundled model or a folder")
    parser.add_argument("--prefill", type=int, default=256, help="tokens of the prompt")
    parser.add_argument("--rounds", type=int, default=5)
    run(parser, compare, text)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and describe."""
    folder = locate(arguments.model)
    native = select("native")
    assert native.threads is not None
    with open_checked(folder) as (config, source):
        read = active_weight_bytes(config, lambda name, shape: source.codec(name))
    weight_bytes = sum(read.values())
    ours, theirs = (ModelTimer(load_model(folder, ops)) for ops in (native.ops, select("reference").ops))
    cases = cases_for(config, weight_bytes, [arguments.prefill], (), ())
    rows = measure(ours, cases, [native.threads], arguments.rounds, theirs)
    return {
        "benchmark": "decode",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": arguments.model,
        "peer": "reference",
        "machine": describe_processor(),
        "rounds": arguments.rounds,
        "active_weight_bytes": weight_bytes,
        "rows": [asdict(row) for row in rows],
    }


def text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['model']}: compiled kernels against the reference, {report['date']}",
        f"{report['machine']['name']}; a token reads {report['active_weight_bytes'] / 1e6:.1f} MB of weights",
        table(report["rows"]),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
