"""`RMSNorm`: the root-mean-square normalisation in front of every layer and behind both latents."""

from __future__ import annotations

from dataclasses import dataclass

from araio.kernels.ops import Ops
from araio.tensors import Float32Array

__all__ = ["RMSNorm"]


@dataclass(frozen=True)
class RMSNorm:
    """`y = x / sqrt(mean(x^2) + eps) * weight`.

    weight  (D,) float32
    """

    weight: Float32Array
    eps: float
    ops: Ops

    def __call__(self, x: Float32Array) -> Float32Array:
        """Normalise each row of x (T, D)."""
        return self.ops.rms_norm(x, self.weight, self.eps)
