"""`MoE`: a mixture of experts (DeepSeek-V3 report, equation 12), the shared expert plus the chosen ones."""

from __future__ import annotations

from dataclasses import dataclass

from araio.kernels.ops import Int32Array, Ops
from araio.nn.experts import ExpertSource
from araio.nn.linear import SwiGLU
from araio.nn.router import Router
from araio.tensors import Float32Array

__all__ = ["MoE"]


@dataclass(frozen=True)
class MoE:
    """Routes, requests, computes the shared expert while the others arrive, and adds.

    shared_experts  one layer of width `n_shared_experts * moe_intermediate_size`, or None
    """

    gate: Router
    experts: ExpertSource
    shared_experts: SwiGLU | None
    ops: Ops

    def __call__(self, x: Float32Array, routes: list[Int32Array] | None = None) -> Float32Array:
        """Map x (T, D) to (T, D); `routes` gets the ids (T, K) of the chosen experts."""
        ids, weights = self.gate(x)
        if routes is not None:
            routes.append(ids)
        ticket = self.experts.request(self.gate.layer, ids)
        shared = self.shared_experts(x) if self.shared_experts is not None else None
        y = self.ops.experts(x, ids, weights, ticket.wait())
        if shared is not None:
            y += shared
        return y
