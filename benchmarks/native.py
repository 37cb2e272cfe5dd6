"""The native engine and llama.cpp in turns, on the same shape, the same bits a weight and the same threads.

    .venv/bin/python benchmarks/build_peer.py llama-cpp       once
    .venv/bin/python benchmarks/native.py lite q4
    .venv/bin/python benchmarks/native.py lite q4 --prefill 128 --context 32768 --together 8 16 --threads 2
    .venv/bin/python benchmarks/native.py r1-slice q4 --apart --json
    .venv/bin/python benchmarks/native.py lite fp8                no peer can, so araio alone

Both models have random weights; a decoded token gets a random id, so both choose experts as they come. The
engines take turns, measurement after measurement, and the speed of reading memory is measured between them,
so that a busy neighbour hits all alike; a row is the median of the rounds, with the range of its ratio.
Where memory does not hold both models, `--apart` measures one after the other.
Decoding is bound by reading each active weight once, which is its limit here; araio's bytes are counted from
its codecs, the peer's from its file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from peers.llama_cpp import LlamaCpp
from report import run, table

import araio
from araio.eval.speed import PREFILLS, active_weight_bytes, cases_for
from araio.formats.store_layout import StoreCodecs
from araio.kernels.select import select
from araio.testing.machine import describe_processor
from araio.testing.random_weights import random_model
from araio.testing.shapes import SHAPES
from araio.testing.timer import ModelTimer
from araio.testing.turns import Row, measure

# What llama.cpp's users would pick at these bits; R1's published files are Q4_K.
PEER_FILES = {
    ("lite", "q4"): "q4_0",
    ("lite", "q8"): "q8_0",
    ("r1-slice", "q4"): "q4_k",
    ("r1-slice", "q8"): "q8_0",
}
CODECS = ("q4", "q8", "fp8", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("codec", choices=CODECS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--prefill", type=int, nargs="+", default=list(PREFILLS), help="lengths of prompts (default: 128 512)"
    )
    parser.add_argument("--together", type=int, nargs="+", default=[], help="sequences decoded side by side")
    parser.add_argument("--context", type=int, nargs="+", default=[], help="cached tokens to decode after")
    peer = parser.add_mutually_exclusive_group()
    peer.add_argument("--alone", action="store_true", help="araio without its peer")
    peer.add_argument("--apart", action="store_true", help="one engine after the other, for want of memory")
    run(parser, compare, text)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and describe; raises PeerError where llama.cpp or its model is missing."""
    config = SHAPES[arguments.shape]()
    tables = "bf16" if arguments.codec == "fp8" else arguments.codec
    codecs = StoreCodecs(arguments.codec, arguments.codec, tables)
    read = active_weight_bytes(config, lambda name, shape: codecs.of(name, shape, (128, 128)))
    weight_bytes = sum(read.values())
    cases = cases_for(config, weight_bytes, arguments.prefill, arguments.together, arguments.context)
    quantisation = None if arguments.alone else PEER_FILES.get((arguments.shape, arguments.codec))
    file = None if quantisation is None else peer_file(arguments.shape, quantisation)
    threads, rounds = arguments.threads, arguments.rounds

    def engine() -> ModelTimer:
        return ModelTimer(random_model(config, codecs, select("native").ops))

    if file is None:
        rows = measure(engine(), cases, threads, rounds)
    elif arguments.apart:
        rows = measure(engine(), cases, threads, rounds)
        with LlamaCpp(file, threads=1) as peer:
            rows = side_by_side(rows, measure(peer, cases, threads, rounds))
    else:
        with LlamaCpp(file, threads=1) as peer:
            rows = measure(engine(), cases, threads, rounds, peer)
    return {
        "benchmark": "native",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "shape": arguments.shape,
        "codec": arguments.codec,
        "peer": None if quantisation is None else f"llama.cpp {quantisation}",
        "apart": arguments.apart,
        "machine": describe_processor(),
        "rounds": rounds,
        "active_weight_bytes": weight_bytes,
        "rows": [asdict(row) for row in rows],
    }


def side_by_side(ours: Sequence[Row], theirs: Sequence[Row]) -> list[Row]:
    """The rows of two engines that were measured one after the other; of their ratio there is no range.

    That memory was as fast for both, `peer` of the rows of reading memory says.
    """
    return [
        replace(own, peer=other.value, ratio=own.value / other.value)
        for own, other in zip(ours, theirs, strict=True)
    ]


def peer_file(shape: str, quantisation: str) -> Path:
    from peers.gguf_models import gguf_file  # needs the gguf package, which only a comparison needs

    return gguf_file(shape, quantisation)


def text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['shape']} {report['codec']} against {report['peer'] or 'nobody'}, {report['date']}",
        f"{report['machine']['name']}; a token reads {report['active_weight_bytes'] / 1e9:.3f} GB of weights",
        table(report["rows"]),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
