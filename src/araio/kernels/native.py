"""The compiled operations: which ones this machine can run, and why not the others.

`araio.kernels._native` is built from `csrc/` when the package is installed where a C++17 compiler exists,
once for each vector width; this module picks the widest that the CPU has. It holds no arithmetic: it hands
arrays to C++ and leaves what C++ does not cover (`BlockFP8`, layers of mixed kinds) to `reference`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from araio import env
from araio.errors import KernelError
from araio.kernels import reference
from araio.kernels.ops import FeedForward, Int32Array
from araio.tensors import BFloat16, BlockFP8, Float32Array, Weight

__all__ = ["CompiledOperations", "Offer", "offer"]

MATRICES = ("gate_proj", "up_proj", "down_proj")

# Element types that C++ multiplies by; all matrices of one call share one.
COMPILED_KINDS = {np.dtype(np.float32), np.dtype(np.uint16)}


@dataclass(frozen=True)
class Offer:
    """What a backend can do here.

    operations  implementation of each operation it has, by the name of its field in `Ops`
    summary     what is offered, or why nothing is, as one sentence
    """

    operations: Mapping[str, Callable[..., Any]]
    summary: str


def offer() -> Offer:
    """The compiled operations for this CPU, or none with the reason.

    Raises:
        KernelError: `ARAIO_CPU_ISA` names a vector width that was not compiled or that this CPU lacks.
    """
    try:
        module = importlib.import_module("araio.kernels._native")
    except ImportError as error:
        summary = (
            f"the compiled kernels are missing ({error}); install a C++17 compiler, then reinstall araio"
        )
        return Offer({}, summary)
    compiled = CompiledOperations(module, _chosen_isa(module))
    return Offer(
        {"experts": compiled.experts, "linear": compiled.linear, "rms_norm": compiled.rms_norm},
        f"compiled for {compiled.isa}",
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


class CompiledOperations:
    """The module's functions with the contracts of `Ops`, at one vector width."""

    def __init__(self, module: ModuleType, isa: str) -> None:
        self.module = module
        self.isa = isa

    def rms_norm(self, x: Float32Array, weight: Float32Array, eps: float) -> Float32Array:
        y = np.empty(x.shape, np.float32)
        self.module.rms_norm(np.ascontiguousarray(x), weight, eps, y, self.isa)
        return y

    def linear(self, x: Float32Array, weight: Weight) -> Float32Array:
        # Float32 is left to BLAS; only the widening of bfloat16 is worth a kernel of our own.
        if not isinstance(weight, BFloat16):
            return reference.linear(x, weight)
        y = np.empty((len(x), weight.shape[0]), np.float32)
        self.module.linear_bf16(np.ascontiguousarray(x), np.ascontiguousarray(weight.bits), y, self.isa)
        return y

    def experts(
        self, x: Float32Array, ids: Int32Array, weights: Float32Array, experts: Mapping[int, FeedForward]
    ) -> Float32Array:
        expert_ids = sorted(set(ids.ravel().tolist()))
        chosen = [experts[expert_id] for expert_id in expert_ids]
        stored = [[_stored(getattr(expert, name)) for expert in chosen] for name in MATRICES]
        kinds = {array.dtype for arrays in stored for array in arrays}
        if not kinds <= COMPILED_KINDS or len(kinds) > 1:
            return reference.experts(x, ids, weights, experts)
        compiled = self.module.experts_bf16 if np.dtype(np.uint16) in kinds else self.module.experts_f32
        y = np.zeros(x.shape, np.float32)
        compiled(
            np.ascontiguousarray(x),
            np.ascontiguousarray(ids),
            np.ascontiguousarray(weights),
            expert_ids,
            *stored,
            y,
            self.isa,
        )
        return y


def _stored(weight: Weight) -> npt.NDArray[Any]:
    """The array behind a weight: float32, bfloat16 bits as uint16, or e4m3 bytes as uint8."""
    if isinstance(weight, BFloat16):
        return np.ascontiguousarray(weight.bits)
    return weight.data if isinstance(weight, BlockFP8) else np.ascontiguousarray(weight)
