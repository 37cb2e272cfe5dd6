"""`Linear` and `SwiGLU`: layers that are one matrix, or three, as the checkpoint stores them."""

from __future__ import annotations

from dataclasses import dataclass

from araio.kernels.ops import FeedForward, Matrix, Ops
from araio.tensors import Float32Array

__all__ = ["Linear", "SwiGLU"]


@dataclass(frozen=True)
class Linear:
    """`y = x weight^T`, without bias.

    weight  (O, I)
    """

    weight: Matrix
    ops: Ops

    def __call__(self, x: Float32Array) -> Float32Array:
        """Map x (T, I) to (T, O)."""
        return self.ops.linear(x, self.weight)


@dataclass(frozen=True)
class SwiGLU:
    """The feed-forward layer of a dense block, and the shared expert of a routed one."""

    weights: FeedForward
    ops: Ops

    def __call__(self, x: Float32Array) -> Float32Array:
        """Map x (T, D) to (T, D)."""
        return self.ops.swiglu(x, self.weights)
