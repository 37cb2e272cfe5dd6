"""The compiled operations: which ones this machine can run, and why not the others.

`araio.kernels._native` is built from `csrc/` when the package is installed where a C++17 compiler exists,
once for each vector width; this module picks the widest that the CPU has. It holds no arithmetic: it makes
the arrays that C++ writes to. Read `csrc/operations.h` next.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from araio import env
from araio.config import ModelConfig
from araio.errors import KernelError
from araio.kernels.ops import (
    OPERATIONS,
    FeedForward,
    Int32Array,
    Int64Array,
    IntArray,
    LatentPages,
    Latents,
    Matrix,
)
from araio.kernels.widen import widen
from araio.tensors import BFloat16, BlockFP8, Float32Array, Quantized, Weight

__all__ = ["CompiledOperations", "Offer", "offer"]

# What the columns of an fp8 block must be a multiple of; every published checkpoint has blocks of 128.
FP8_COLUMNS = 64

MAX_THREADS = 1024


@dataclass(frozen=True)
class Offer:
    """What a backend can do here.

    operations  `hold` and every operation, by the name of its field in `Ops`; none where it cannot run
    summary     what is offered, or why nothing is, as one sentence
    threads     that work on each operation; None where nothing is offered
    """

    operations: Mapping[str, Callable[..., Any]]
    summary: str
    threads: int | None = None


def offer(threads: int | None = None) -> Offer:
    """The compiled operations for this CPU, or none with the reason.

    threads  that work on each operation, in the whole process; None reads `ARAIO_THREADS`

    Raises:
        KernelError: `ARAIO_CPU_ISA` names a vector width that was not compiled or that this CPU lacks, or
            a number of threads that cannot be.
    """
    try:
        module = importlib.import_module("araio.kernels._native")
    except ImportError as error:
        summary = (
            f"the compiled kernels are missing ({error}); install a C++17 compiler, then reinstall araio"
        )
        return Offer({}, summary)
    isa, threads = _chosen_isa(module), _chosen_threads(threads)
    module.set_threads(threads)
    compiled = CompiledOperations(module, isa)
    names = ("hold", *OPERATIONS)
    plural = "s" if threads > 1 else ""
    return Offer(
        {name: getattr(compiled, name) for name in names},
        f"compiled for {isa}, {threads} thread{plural}",
        threads,
    )


def _chosen_isa(module: ModuleType) -> str:
    """The widest instruction set, or the one that `ARAIO_CPU_ISA` asks for."""
    available: list[str] = module.isas()
    asked = env.get("ARAIO_CPU_ISA")
    if asked == "auto":
        return available[0]
    if asked not in available:
        raise KernelError(
            f"ARAIO_CPU_ISA is {asked!r}; this machine and build have {', '.join(available)}, "
            "and auto takes the widest"
        )
    return asked


def _chosen_threads(asked: int | None) -> int:
    """As many as the process may use processors, or what was asked for."""
    text = env.get("ARAIO_THREADS") if asked is None else str(asked)
    if text == "auto":
        return min(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            MAX_THREADS,
        )
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        name, auto = ("ARAIO_THREADS", "auto or ") if asked is None else ("threads", "")
        raise KernelError(f"{name} is {text!r}; expected {auto}a number from 1 to {MAX_THREADS}")
    return int(text)


class CompiledOperations:
    """The module's functions with the contracts of `Ops`, at one vector width."""

    def __init__(self, module: ModuleType, isa: str) -> None:
        self.module = module
        self.compiled = module.operations(isa)
        self.routing: tuple[ModelConfig | None, Any] = None, None

    def hold(self, weight: Weight) -> Matrix:
        module = self.module
        if isinstance(weight, Quantized):
            rows, columns = weight.shape
            scale = weight.scale.view(np.uint16)
            held = module.hold_tiles(weight.bits, weight.data, scale, rows, columns)
        elif isinstance(weight, BFloat16):
            held = module.hold_bf16(np.ascontiguousarray(weight.bits))
        elif isinstance(weight, BlockFP8) and weight.block[1] % FP8_COLUMNS == 0:
            held = module.hold_fp8(weight.data, weight.scale_inv, *weight.block)
        else:
            held = module.hold_f32(np.ascontiguousarray(widen(weight)))
        matrix: Matrix = held
        return matrix

    def embed(self, ids: IntArray, weight: Matrix) -> Float32Array:
        y = np.empty((len(ids), weight.shape[1]), np.float32)
        self.compiled.embed(np.ascontiguousarray(ids, np.int64), weight, y)
        return y

    def rms_norm(self, x: Float32Array, weight: Float32Array, eps: float) -> Float32Array:
        y = np.empty(x.shape, np.float32)
        self.compiled.rms_norm(np.ascontiguousarray(x), weight, eps, y)
        return y

    def linear(self, x: Float32Array, weight: Matrix) -> Float32Array:
        y = np.empty((len(x), weight.shape[0]), np.float32)
        self.compiled.linear(np.ascontiguousarray(x), weight, y)
        return y

    def rope(self, x: Float32Array, cos: Float32Array, sin: Float32Array) -> Float32Array:
        y = np.empty(x.shape, np.float32)
        self.compiled.rope(x, np.ascontiguousarray(cos), np.ascontiguousarray(sin), y)
        return y

    def swiglu(self, x: Float32Array, weights: FeedForward) -> Float32Array:
        y = np.empty(x.shape, np.float32)
        self.compiled.swiglu(np.ascontiguousarray(x), weights, y)
        return y

    def experts(
        self, x: Float32Array, ids: Int32Array, weights: Float32Array, experts: Mapping[int, FeedForward]
    ) -> Float32Array:
        y = np.empty(x.shape, np.float32)
        self.compiled.experts(
            np.ascontiguousarray(x), np.ascontiguousarray(ids), np.ascontiguousarray(weights), experts, y
        )
        return y

    def expert_answers(
        self, x: Float32Array, ids: Int32Array, experts: Mapping[int, FeedForward], answers: Float32Array
    ) -> None:
        self.compiled.expert_answers(np.ascontiguousarray(x), np.ascontiguousarray(ids), experts, answers)

    def combine_experts(self, answers: Float32Array, ids: Int32Array, weights: Float32Array) -> Float32Array:
        T, _, D = answers.shape
        y = np.empty((T, D), np.float32)
        self.compiled.combine_experts(
            np.ascontiguousarray(answers), np.ascontiguousarray(ids), np.ascontiguousarray(weights), y
        )
        return y

    def route(
        self, logits: Float32Array, bias: Float32Array | None, config: ModelConfig
    ) -> tuple[Int32Array, Float32Array]:
        shape = len(logits), config.num_experts_per_tok
        ids, weights = np.empty(shape, np.int32), np.empty(shape, np.float32)
        self.compiled.route(self._routing(config), np.ascontiguousarray(logits), bias, ids, weights)
        return ids, weights

    def _routing(self, config: ModelConfig) -> Any:
        """What C++ needs of the config; the latest is kept, for a model asks with the same one each time."""
        known, routing = self.routing
        if known is not config:
            has_groups = config.topk_method != "greedy"
            routing = self.module.routing(
                config.scoring_func == "sigmoid",
                config.n_group if has_groups else 1,
                config.topk_group if has_groups else 1,
                config.num_experts_per_tok,
                config.norm_topk_prob,
                config.routed_scaling_factor,
            )
            self.routing = config, routing
        return routing

    def store_latents(
        self, c_kv: Float32Array, k_pe: Float32Array, slots: Int64Array, pages: LatentPages
    ) -> None:
        self.compiled.store_latents(np.ascontiguousarray(c_kv), np.ascontiguousarray(k_pe), slots, pages)

    def mla_prefill(
        self, q_nope: Float32Array, q_pe: Float32Array, latents: Latents, kv_b_proj: Matrix, scale: float
    ) -> Float32Array:
        y = _values_of(q_nope, kv_b_proj)
        self.compiled.mla_prefill(q_nope, q_pe, *latents, kv_b_proj, scale, y)
        return y

    def mla_decode(
        self, q_nope: Float32Array, q_pe: Float32Array, latents: Latents, kv_b_proj: Matrix, scale: float
    ) -> Float32Array:
        y = _values_of(q_nope, kv_b_proj)
        self.compiled.mla_decode(q_nope, q_pe, *latents, kv_b_proj, scale, y)
        return y


def _values_of(q_nope: Float32Array, kv_b_proj: Matrix) -> Float32Array:
    """Room for one value (V,) per token and head."""
    T, H, N = q_nope.shape
    return np.empty((T, H, kv_b_proj.shape[0] // H - N), np.float32)
