"""The native engine and llama.cpp in turns, on the same shape, the same bits a weight and the same threads.

    .venv/bin/python benchmarks/peers/llama_cpp.py build          once
    .venv/bin/python benchmarks/native.py lite q4
    .venv/bin/python benchmarks/native.py r1-slice q4 --threads 2 --rounds 7 --all --json
    .venv/bin/python benchmarks/native.py r1-slice fp8            no peer can, so araio alone

Both models have random weights; a decoded token gets a random id, so both choose experts as they come. The
engines take turns, measurement after measurement, and the speed of reading memory is measured between them,
so that a busy neighbour hits all alike; a row is the median of the rounds, with the range of its ratio.
Decoding is bound by reading each active weight once, which is its limit here; araio's bytes are counted from
its codecs, the peer's from its file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from machine import describe, read_bandwidth
from peers.llama_cpp import LlamaCpp

import araio
from araio.codecs import codec
from araio.config import ModelConfig
from araio.errors import AraioError
from araio.formats.layout import expert_of, main_tensors
from araio.formats.store_layout import StoreCodecs
from araio.kernels.ops import PAGE
from araio.kernels.select import select
from araio.nn.batch import Segment
from araio.nn.kv_cache import LatentCache, LatentPool
from araio.testing.random_weights import random_model
from araio.testing.shapes import SHAPES

# What llama.cpp's users would pick at these bits; R1's published files are Q4_K.
PEER_FILES = {
    ("lite", "q4"): "q4_0",
    ("lite", "q8"): "q8_0",
    ("r1-slice", "q4"): "q4_k",
    ("r1-slice", "q8"): "q8_0",
}
CODECS = ("q4", "q8", "fp8", "bf16")
PREFILLS = (128, 512)
CONTEXTS = (32_768, 131_072)
TOGETHER = (8, 16)
DECODED = 24
DECODED_FAR = 4  # tokens after a long context
WARM_CONTEXT = 16


class Engine(Protocol):
    """What is timed; both engines have it. Every method gives seconds."""

    threads: int

    def prefill(self, tokens: int) -> float: ...

    def decode(self, tokens: int, context: int = 0) -> float: ...

    def decode_together(self, sequences: int, tokens: int) -> float: ...


class Araio:
    """A random model in this process."""

    def __init__(self, config: ModelConfig, codecs: StoreCodecs) -> None:
        self.threads = 1
        self.model = random_model(config, codecs, select("native", threads=1).ops)
        self._rng = np.random.default_rng(0)

    def prefill(self, tokens: int) -> float:
        """A prompt of `tokens`, up to the logits of its last."""
        select("native", threads=self.threads)
        ids = self._ids(tokens)
        cache = LatentCache(self.model.new_pool(tokens))
        started = time.perf_counter()
        self.model.logits(self.model.forward(ids, cache)[-1:])
        return time.perf_counter() - started

    def decode(self, tokens: int, context: int = 0) -> float:
        """`tokens` tokens, one by one, with logits each, after `context` cached ones."""
        return self._decode(1, tokens, context)

    def decode_together(self, sequences: int, tokens: int) -> float:
        """`tokens` steps in each of which `sequences` sequences are given a token."""
        return self._decode(sequences, tokens, WARM_CONTEXT)

    def _decode(self, sequences: int, tokens: int, context: int) -> float:
        select("native", threads=self.threads)
        pool = self.model.new_pool(sequences * (context + tokens + PAGE))
        caches = [self._filled(pool, context) for _ in range(sequences)]
        ids = self._ids(tokens * sequences).reshape(tokens, sequences, 1)
        started = time.perf_counter()
        for step in ids:
            segments = [Segment(one, cache, absorbed=True) for one, cache in zip(step, caches, strict=True)]
            self.model.logits(self.model.step(segments))
            for cache in caches:
                cache.advance(1)
        return time.perf_counter() - started

    def _filled(self, pool: LatentPool, context: int) -> LatentCache:
        """A sequence of `context` positions with made-up latents, as large as real ones."""
        cache = LatentCache(pool)
        cache.reserve(context)
        numbers = self._rng.standard_normal((PAGE, pool.layer(0).shape[2]), dtype=np.float32)
        made_up = codec("bf16").encode(numbers)
        for layer in range(self.model.config.num_hidden_layers):
            pool.layer(layer)[cache.pages] = made_up.bits
        cache.advance(context)
        return cache

    def _ids(self, count: int) -> npt.NDArray[np.int64]:
        return self._rng.integers(0, self.model.config.vocab_size, count)


@dataclass(frozen=True)
class Row:
    """One speed of araio: `ratio` is over `peer`'s speed, and only decoding has a limit of memory."""

    name: str
    value: float
    unit: str
    peer: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    limit: float | None
    fraction_of_limit: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("codec", choices=CODECS)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="long contexts and several sequences too")
    parser.add_argument("--alone", action="store_true", help="araio without its peer")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()
    try:
        report = compare(arguments)
    except AraioError as error:
        parser.error(str(error))
    print(json.dumps(report, indent=2) if arguments.json else text(report))


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and describe; raises PeerError where llama.cpp or its model is missing."""
    config = SHAPES[arguments.shape]()
    file = PEER_FILES.get((arguments.shape, arguments.codec))
    peer = None
    if file is not None and not arguments.alone:
        peer = LlamaCpp(peer_file(arguments.shape, file), threads=1)
    try:
        codecs = StoreCodecs(
            arguments.codec, arguments.codec, "bf16" if arguments.codec == "fp8" else arguments.codec
        )
        engine = Araio(config, codecs)
        rows = []
        for threads in arguments.threads:
            rows += measure(
                engine, peer, threads, arguments.rounds, active_bytes(config, codecs), arguments.all
            )
        return {
            "benchmark": "native",
            "araio": araio.__version__,
            "date": time.strftime("%Y-%m-%d"),
            "shape": arguments.shape,
            "codec": arguments.codec,
            "peer": None if peer is None else f"llama.cpp {file}",
            "machine": describe(),
            "rounds": arguments.rounds,
            "active_weight_bytes": active_bytes(config, codecs),
            "rows": [asdict(row) for row in rows],
        }
    finally:
        if peer is not None:
            peer.close()


def peer_file(shape: str, quantisation: str) -> Any:
    from peers.gguf_models import gguf_file  # needs the gguf package, which only a comparison needs

    return gguf_file(shape, quantisation)


def active_bytes(config: ModelConfig, codecs: StoreCodecs) -> int:
    """Bytes of weights that one decoded token reads: all but the embedding, and of the experts its own."""
    read = 0.0
    for name, shape in main_tensors(config):
        stored = codecs.of(name, shape, (128, 128)).bytes(shape)
        if expert_of(name) is not None:
            read += stored * config.num_experts_per_tok / config.n_routed_experts
        elif name != "model.embed_tokens.weight":
            read += stored
    return round(read)


class Case(NamedTuple):
    """Something to time: the tokens that it makes, and whether reading weights is all that bounds it."""

    name: str
    tokens: int
    run: Callable[[Engine], float]
    has_limit: bool = False


def _prefill(one: Engine, tokens: int) -> float:
    return one.prefill(tokens)


def _decode_after(one: Engine, context: int) -> float:
    return one.decode(DECODED_FAR, context)


def _decode_together(one: Engine, sequences: int) -> float:
    return one.decode_together(sequences, DECODED)


def measure(
    engine: Engine, peer: Engine | None, threads: int, rounds: int, token_bytes: int, wants_all: bool
) -> list[Row]:
    """All rows of a number of threads."""
    engine.threads = threads
    if peer is not None:
        peer.threads = threads
    cases: list[Case] = [Case("decode", DECODED, lambda one: one.decode(DECODED, WARM_CONTEXT), True)]
    cases += [Case(f"prefill {n}", n, partial(_prefill, tokens=n)) for n in PREFILLS]
    if wants_all:
        cases += [Case(f"decode after {n}", DECODED_FAR, partial(_decode_after, context=n)) for n in CONTEXTS]
        cases += [
            Case(f"decode {n} together", n * DECODED, partial(_decode_together, sequences=n))
            for n in TOGETHER
        ]
    rows = []
    for name, tokens, run, has_limit in cases:
        ours, theirs, bandwidth = take_turns(engine, peer, run, threads, rounds)
        speed = tokens / statistics.median(ours)
        limit = statistics.median(bandwidth) / token_bytes if has_limit else None
        ratios = sorted(other / own for own, other in zip(ours, theirs, strict=False))  # none without a peer
        rows.append(
            Row(
                name=f"{name}, {threads} thread{'s' if threads > 1 else ''}",
                value=speed,
                unit="tok/s",
                peer=tokens / statistics.median(theirs) if theirs else None,
                ratio=statistics.median(theirs) / statistics.median(ours) if theirs else None,
                ratio_low=ratios[0] if ratios else None,
                ratio_high=ratios[-1] if ratios else None,
                limit=limit,
                fraction_of_limit=speed / limit if limit else None,
            )
        )
    return rows


def take_turns(
    engine: Engine, peer: Engine | None, case: Callable[[Engine], float], threads: int, rounds: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of both engines and bytes per second of memory, round after round; the first only warms up."""
    ours, theirs, bandwidth = [], [], []
    for turn in range(rounds + 1):
        own = case(engine)
        other = case(peer) if peer is not None else None
        read = read_bandwidth(threads)
        if turn > 0:
            ours.append(own)
            bandwidth.append(read)
            if other is not None:
                theirs.append(other)
    return ours, theirs, bandwidth


def text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['shape']} {report['codec']} against {report['peer'] or 'nobody'}, {report['date']}",
        f"{report['machine']['cpu']}; a token reads {report['active_weight_bytes'] / 1e9:.3f} GB of weights",
        f"{'':<26}{'araio':>9}{'peer':>9}{'ratio':>8}{'range':>16}{'of the limit':>14}",
    ]
    for row in report["rows"]:
        peer = "" if row["peer"] is None else f"{row['peer']:.2f}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        spread = "" if row["ratio"] is None else f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
        share = "" if row["fraction_of_limit"] is None else f"{row['fraction_of_limit']:.0%}"
        lines.append(f"{row['name']:<26}{row['value']:>9.2f}{peer:>9}{ratio:>8}{spread:>16}{share:>14}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
