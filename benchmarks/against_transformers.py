"""The native engine and Hugging Face transformers in turns, on one checkpoint and the same threads.

    .venv/bin/python benchmarks/against_transformers.py
    .venv/bin/python benchmarks/against_transformers.py --threads 2 --rounds 7 --json

The checkpoint has R1's architecture in small (`r1-small` of araio.testing.shapes) and random weights, in
bfloat16: 0.7 GB on the disk while this runs, and 3 GB of memory. araio runs it as it is stored; transformers
in float32, and in bfloat16. Before anything is timed, their logits must agree.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import transformers
from peers.transformers_cpu import DType, Transformers
from report import run, table

import araio
from araio.config import ModelConfig
from araio.errors import AraioError
from araio.eval.speed import PREFILLS, active_weight_bytes, cases_for
from araio.formats.layout import expected_tensors
from araio.formats.store_layout import StoreCodecs
from araio.formats.write import write_checkpoint
from araio.kernels.ops import IntArray
from araio.kernels.select import select
from araio.nn.kv_cache import LatentCache
from araio.nn.model import Model
from araio.tensors import Float32Array
from araio.testing.machine import describe_processor
from araio.testing.random_weights import RandomWeights
from araio.testing.shapes import r1_small
from araio.testing.timer import ModelTimer
from araio.testing.turns import measure
from araio.weights.load import load_model

CODECS = StoreCodecs("bf16", "bf16", "bf16")
TOGETHER = (8,)
CHECKED = 48  # tokens whose logits are compared
CHECKED_DECODED = 8  # of them, one by one
# Of a token's logits, as a share of their length. bfloat16 keeps 8 bits of every activation.
TOLERANCE: dict[DType, float] = {"float32": 1e-4, "bfloat16": 0.05}


class DisagreementError(AraioError):
    """Two engines that give different logits, so that their speeds cannot be compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    run(parser, lambda asked: compare(r1_small(), asked.threads, asked.rounds), text)


def compare(config: ModelConfig, threads: list[int], rounds: int) -> dict[str, Any]:
    """Measure and describe; raises DisagreementError."""
    weight_bytes = sum(
        active_weight_bytes(config, lambda name, shape: CODECS.of(name, shape, (128, 128))).values()
    )
    cases = cases_for(config, weight_bytes, PREFILLS, TOGETHER, ())
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, config)
        model = load_model(folder, select("native").ops)
        distances = {}
        for dtype in get_args(DType):
            peer = Transformers(folder, dtype)
            distances[dtype] = check(model, peer, dtype)
            measured = measure(ModelTimer(model), cases, threads, rounds, peer)
            rows += [asdict(row) | {"name": f"{row.name}, {dtype}"} for row in measured]
    return {
        "benchmark": "against_transformers",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "shape": "r1-small",
        "codec": "bf16",
        "peer": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "machine": describe_processor(),
        "rounds": rounds,
        "active_weight_bytes": weight_bytes,
        "logits_distance": distances,
        "rows": rows,
    }


def write(folder: Path, config: ModelConfig) -> None:
    """A folder as Hugging Face lays it out, with random weights and without a tokenizer."""
    weights = RandomWeights(config, CODECS)
    config.save(folder / "config.json")
    write_checkpoint(folder, ((name, weights.read_weight(name)) for name in expected_tensors(config)))


def check(model: Model, peer: Transformers, dtype: DType) -> float:
    """How far the two engines' logits are apart at the median token, as a share of their length.

    Raises DisagreementError where that is too far. The median, for where two experts are nearly as good,
    rounding may choose.
    """
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, CHECKED)
    ours, theirs = own_logits(model, ids), peer.logits(ids, CHECKED_DECODED)
    distance = float(np.median(np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)))
    if not distance <= TOLERANCE[dtype]:
        raise DisagreementError(
            f"logits of araio and of transformers in {dtype} are {distance:.3g} of their length apart, more "
            f"than {TOLERANCE[dtype]:g}; one of them is wrong, and its speed means nothing"
        )
    return distance


def own_logits(model: Model, ids: IntArray) -> Float32Array:
    """As `Transformers.logits`, from a cache that rounds nothing."""
    cache = LatentCache(model.new_pool(len(ids), "float32"))
    first = len(ids) - CHECKED_DECODED
    hidden = [model.forward(ids[:first], cache)]
    hidden += [model.forward(ids[at : at + 1], cache, absorbed=True) for at in range(first, len(ids))]
    return model.logits(np.concatenate(hidden))


def text(report: dict[str, Any]) -> str:
    distances = ", ".join(
        f"{distance:.1e} in {dtype}" for dtype, distance in report["logits_distance"].items()
    )
    lines = [
        f"{report['shape']} {report['codec']} against {report['peer']}, {report['date']}",
        f"{report['machine']['name']}; a token reads {report['active_weight_bytes'] / 1e9:.3f} GB of weights",
        f"logits apart by {distances}",
        table(report["rows"]),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
