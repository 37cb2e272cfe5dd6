"""What this machine does in a second: memory, the kernels by codec, attention, fixed seconds, the disk.

`this_machine` measures once and remembers, in a file of the user's cache folder; it takes some seconds for
each number of threads. Kernels are measured as the model calls them: matrices that come from memory, the same
from the processor's cache, one token or many. What they did is what `costs/roofline.py` predicts with. Every
speed is that of the best of some rounds, for others on the machine only ever slow it down, and a speed for
more tokens is never below that for fewer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import psutil

from araio.atomic import write_text
from araio.codecs import CODECS, codec
from araio.costs.machine import Machine
from araio.costs.speeds import Attention, Curve, Fixed, Product, Speeds
from araio.errors import CostError, KernelError
from araio.eval.disk import disk_speed
from araio.formats.store_layout import StoreCodecs
from araio.kernels.ops import PAGE, Latents, Matrix, Ops
from araio.kernels.select import Selection, select
from araio.tensors import Float32Array
from araio.testing.checkpoints import tiny_config
from araio.testing.machine import describe_processor, read_bandwidth, usable_processors
from araio.testing.random_weights import random_model, repeated_weight
from araio.testing.timer import ModelTimer

__all__ = ["cache_file", "this_machine"]

OnStep: TypeAlias = Callable[[str], None]
"""Called with what is measured next."""

ROWS = COLUMNS = 2048  # of a matrix, as large as an expert's
STREAMED_BYTES = 192 << 20  # of matrices one after the other: what the caches of a few cores cannot hold
TOKENS = (1, 2, 4, 8, 16, 32, 64, 256)
STREAMED_TOKENS = (1, 2, 4, 8, 16, 32)  # with more, reading no longer counts
MIDDLE = 32 << 20  # of which a cache of a few cores keeps a part

SHORT = 128  # the short side of the matrices that tell what goes in and out
EDGE_TOKENS = 64


class HeadSizes(NamedTuple):
    """Sizes of a head, and of the latent that all share."""

    head: int
    rotary: int
    latent: int


LARGE, SMALL = HeadSizes(128, 64, 512), HeadSizes(32, 16, 64)  # DeepSeek's, and those of a tiny model
HEADS, FEW_HEADS = 16, 4  # few of them leave vectors half empty
NEAR, FAR = 1024, 4096  # positions
PROMPT = 256

ROUNDS, ROUND_S = 7, 0.006


def cache_file() -> Path:
    """Where measurements are remembered: `araio/machine.json` in the user's cache folder (XDG)."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(folder) if folder.startswith("/") else Path.home() / ".cache"
    return base / "araio" / "machine.json"


def this_machine(
    threads: int | None = None,
    *,
    file: Path | None = None,
    measure_again: bool = False,
    on_step: OnStep = lambda what: None,
) -> Machine:
    """This machine's speeds with so many threads, from the file if it has them; otherwise measured and kept.

    threads        None takes as many as every other command would
    file           None takes `cache_file()`
    measure_again  forget what was measured

    Raises CostError where they cannot be kept, KernelError for more threads than processors, for threads that
    cannot be, and where only NumPy's operations serve, whose speeds this does not measure.
    """
    selection = select("auto", threads)
    count = selection.threads
    if count is None:
        raise KernelError(
            f"this machine cannot be measured: {selection.reasons['linear'].reason}; name hardware of the "
            "table instead"
        )
    if count > (processors := usable_processors()):
        raise KernelError(
            f"{count} threads cannot be measured: this machine has {processors} processors to use; ask for "
            "as many threads at most"
        )
    file = file or cache_file()
    fresh = Machine(
        describe_processor()["name"],
        selection.reasons["linear"].reason.split(",")[0],
        time.strftime("%Y-%m-%d"),
        psutil.virtual_memory().total,
    )
    known = None if measure_again else _remembered(file, fresh)
    machine = known or fresh
    if count in machine.rates:
        return machine
    _make_folder(file.parent)
    if machine.disk_bytes_per_s is None:
        on_step("disk")
        machine = replace(machine, disk_bytes_per_s=disk_speed(file.parent))
    rates = measure_rates(selection, on_step)
    machine = replace(machine, date=fresh.date, rates={**machine.rates, count: rates})
    _remember(file, machine)
    return machine


def measure_rates(selection: Selection, on_step: OnStep = lambda what: None) -> Speeds:
    """Everything but the disk, with the threads of a selection."""
    ops, threads = selection.ops, selection.threads
    assert threads is not None
    on_step("memory")
    bandwidth = read_bandwidth(threads)
    on_step("cache")
    cache_bytes = _cache_bytes(ops)
    products = {}
    for name in CODECS:
        on_step(f"products with {name}")
        products[name] = _product(ops, name)
    on_step("attention")
    attention = _attention(ops)
    on_step("fixed costs")
    return Speeds(bandwidth, products, attention, _fixed(ops, threads), cache_bytes)


def _remembered(file: Path, like: Machine) -> Machine | None:
    """What the file holds of this very machine; None if it holds nothing, or of another one."""
    try:
        known = Machine.from_json(file.read_bytes())
    except (OSError, CostError):
        return None
    same = ("processor", "kernels", "memory_bytes")
    return known if all(getattr(known, name) == getattr(like, name) for name in same) else None


def _remember(file: Path, machine: Machine) -> None:
    write_text(file, machine.to_json())


def _make_folder(folder: Path) -> None:
    """Before anything is measured, for what cannot be kept would be measured every time."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CostError(
            f"{folder}: measurements of this machine cannot be kept there ({error.strerror}); name another "
            "cache folder by XDG_CACHE_HOME"
        ) from None


def _seconds(work: Callable[[], Any], calls: int = 1) -> float:
    """Of one of the calls that `work` makes, in the best of some rounds."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        started, done = time.perf_counter(), 0
        while (taken := time.perf_counter() - started) < ROUND_S:
            work()
            done += calls
        rounds.append(taken / done)
    return min(rounds)


def _held(ops: Ops, name: str, count: int) -> list[Matrix]:
    return [ops.hold(repeated_weight(codec(name), (ROWS, COLUMNS), seed)) for seed in range(count)]


def _cache_bytes(ops: Ops) -> int:
    """How much of a set of weights the processor's cache keeps from one pass to the next.

    A set of `MIDDLE` bytes takes part of its time at the cache's speed and the rest at that of memory.
    """
    one = codec("q8").bytes((ROWS, COLUMNS))
    matrices = _held(ops, "q8", -(-STREAMED_BYTES // one))
    fast, middle, slow = (
        _streamed_s(ops, matrices[: max(1, size // one)], 1) for size in (one, MIDDLE, STREAMED_BYTES)
    )
    share = (slow - middle) / (slow - fast) if slow > fast else 1.0
    return int(min(max(share, 0.0), 1.0) * (MIDDLE // one) * one)


def _product(ops: Ops, name: str) -> Product:
    """A codec's speeds by tokens, with a matrix in the cache and with matrices from memory."""
    matrices = _held(ops, name, -(-STREAMED_BYTES // codec(name).bytes((ROWS, COLUMNS))))
    input_s, output_s = _edges(ops, name, matrices[0])
    cached, streamed = [], []
    for tokens in TOKENS:
        edges_s = tokens * (COLUMNS * input_s + ROWS * output_s)
        cached.append(_speed(_linear_s(ops, matrices[0], tokens), tokens, edges_s))
        if tokens in STREAMED_TOKENS:
            streamed.append(_speed(_streamed_s(ops, matrices, tokens), tokens, edges_s))
    # With many tokens a matrix stays in the cache while it is used: both speeds are one.
    streamed += cached[len(STREAMED_TOKENS) :]
    return Product(
        _growing(TOKENS, cached), _growing(TOKENS, streamed), _absorption(ops, name), input_s, output_s
    )


def _speed(seconds: float, tokens: int, edges_s: float) -> float:
    """Operations per second without what goes in and out."""
    return 2 * ROWS * COLUMNS * tokens / max(seconds - edges_s, seconds / 2)


def _edges(ops: Ops, name: str, square: Matrix) -> tuple[float, float]:
    """Seconds for a number that goes in and one that comes out, from three shapes."""
    narrow, flat = (ROWS, SHORT), (SHORT, COLUMNS)
    shapes = (ROWS, COLUMNS), narrow, flat
    held = [square, *(ops.hold(repeated_weight(codec(name), shape, 0)) for shape in (narrow, flat))]
    taken = [_linear_s(ops, matrix, EDGE_TOKENS) for matrix in held]
    terms = np.array([(rows * columns, columns, rows) for rows, columns in shapes], float)
    _, input_s, output_s = np.linalg.solve(terms, np.array(taken) / EDGE_TOKENS)
    return max(0.0, float(input_s)), max(0.0, float(output_s))


def _linear_s(ops: Ops, matrix: Matrix, tokens: int) -> float:
    """Seconds of a product with a matrix that stays in the cache."""
    x = np.ones((tokens, matrix.shape[1]), np.float32)
    return _seconds(lambda: ops.linear(x, matrix))


def _streamed_s(ops: Ops, matrices: Sequence[Matrix], tokens: int) -> float:
    """Seconds of a product with a matrix that nobody read since all the others were."""
    x = np.ones((tokens, COLUMNS), np.float32)
    return _seconds(lambda: [ops.linear(x, matrix) for matrix in matrices], len(matrices))


def _growing(sizes: Sequence[float], speeds: Sequence[float]) -> Curve:
    return Curve(tuple(float(size) for size in sizes), tuple(accumulate(speeds, max)))


class _Attended:
    """Attention of some heads of a size to latents of random numbers."""

    def __init__(self, ops: Ops, name: str, heads: int, sizes: HeadSizes) -> None:
        self._ops, self._heads, self._sizes = ops, heads, sizes
        self._rng = np.random.default_rng(0)
        self._kv_b = ops.hold(repeated_weight(codec(name), (heads * 2 * sizes.head, sizes.latent), 0))

    def decode_s(self, positions: int) -> float:
        """Seconds of one token's."""
        queries, latents = self._queries(1), self._latents(positions, 1)
        return _seconds(lambda: self._ops.mla_decode(*queries, latents, self._kv_b, 0.1))

    def prompt_s(self, tokens: int) -> float:
        """Seconds of a prompt's."""
        queries, latents = self._queries(tokens), self._latents(tokens, tokens)
        return _seconds(lambda: self._ops.mla_prefill(*queries, latents, self._kv_b, 0.1))

    def _queries(self, tokens: int) -> tuple[Float32Array, Float32Array]:
        shape, sizes = (tokens, self._heads), self._sizes
        q_nope = self._rng.standard_normal((*shape, sizes.head), dtype=np.float32)
        return q_nope, self._rng.standard_normal((*shape, sizes.rotary), dtype=np.float32)

    def _latents(self, positions: int, tokens: int) -> Latents:
        pages = -(-positions // PAGE)
        shape = pages * PAGE, self._sizes.latent + self._sizes.rotary
        numbers = self._rng.standard_normal(shape, dtype=np.float32)
        bits = codec("bf16").encode(numbers).bits.reshape(pages, PAGE, -1)
        return Latents.of_one(bits, np.arange(pages), positions, tokens)


def _absorption(ops: Ops, name: str) -> float:
    """Operations per second with `kv_b_proj` when one token is decoded after nothing."""
    seconds = _Attended(ops, name, HEADS, LARGE).decode_s(1)
    return 2 * HEADS * 2 * LARGE.head * LARGE.latent / seconds


def _attention(ops: Ops) -> Attention:
    """Large heads and small ones tell what operations take and what each score takes."""
    large, score_s = _two_unknowns(*(_decode_of(ops, HEADS, sizes) for sizes in (LARGE, SMALL)))
    few = _decode_of(ops, FEW_HEADS, LARGE)
    few_speed = few[0] / max(few[2] - score_s * few[1], few[2] / 2)
    prompt, prompt_score_s = _two_unknowns(*(_prompt_of(ops, sizes) for sizes in (LARGE, SMALL)))
    decode = _growing((FEW_HEADS, HEADS), (few_speed, large))
    return Attention(decode, prompt, score_s, prompt_score_s)


def _decode_of(ops: Ops, heads: int, sizes: HeadSizes) -> tuple[float, float, float]:
    """Operations, scores and seconds of attending to some more positions, free of what a call takes."""
    attended = _Attended(ops, "bf16", heads, sizes)
    seconds = attended.decode_s(FAR) - attended.decode_s(NEAR)
    scores = heads * (FAR - NEAR)
    return 2.0 * scores * (2 * sizes.latent + sizes.rotary), float(scores), max(seconds, 1e-9)


def _prompt_of(ops: Ops, sizes: HeadSizes) -> tuple[float, float, float]:
    """Operations, scores and seconds of a prompt."""
    scores = HEADS * PROMPT * (PROMPT + 1) / 2
    expansion = 2 * HEADS * 2 * sizes.head * sizes.latent * PROMPT
    operations = expansion + 2 * scores * (2 * sizes.head + sizes.rotary)
    return operations, scores, _Attended(ops, "bf16", HEADS, sizes).prompt_s(PROMPT)


def _two_unknowns(
    large: tuple[float, float, float], small: tuple[float, float, float]
) -> tuple[float, float]:
    """Operations per second and seconds per score, from two sizes of heads; no less than nothing."""
    operation_s, score_s = np.linalg.solve(np.array([large[:2], small[:2]]), np.array([large[2], small[2]]))
    if score_s <= 0 or operation_s <= 0:
        return large[0] / large[2], 0.0
    return float(1 / operation_s), float(score_s)


def _fixed(ops: Ops, threads: int) -> Fixed:
    """Seconds of a step, a layer and a sequence, from models so small that nothing else takes time."""
    few, many, steps = 1, 9, 8

    def step_s(dense: int, routed: int, sequences: int) -> float:
        config = tiny_config(
            "v3",
            first_k_dense_replace=dense,
            num_hidden_layers=dense + routed,
            num_nextn_predict_layers=0,
            max_position_embeddings=4096,
        )
        model = random_model(config, StoreCodecs("f32", "f32", "f32"), ops)
        timer = ModelTimer(model, threads)
        timer.decode_together(sequences, steps)
        return min(timer.decode_together(sequences, steps) for _ in range(ROUNDS)) / steps

    least = step_s(few, few, 1)
    dense = max(0.0, (step_s(many, few, 1) - least) / (many - few))
    routed = max(0.0, (step_s(few, many, 1) - least) / (many - few))
    more = 8
    sequence = max(0.0, (step_s(few, many, 1 + more) - step_s(few, many, 1)) / (more * (few + many)))
    return Fixed(max(0.0, least - few * (dense + routed)), dense, routed, sequence)
