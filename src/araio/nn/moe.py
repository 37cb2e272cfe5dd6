"""`MoE`: a mixture of experts (DeepSeek-V3 report, equation 12), the shared expert plus the chosen ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from araio.kernels.ops import Int32Array, Ops
from araio.nn.experts import ExpertSource, Ticket
from araio.nn.linear import SwiGLU
from araio.nn.router import Router
from araio.tensors import Float32Array

__all__ = ["MoE"]


@dataclass(frozen=True)
class MoE:
    """Routes, requests, computes what is there while the rest arrives, and adds.

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
        y = self._routed(x, ids, weights, ticket)
        if shared is not None:
            y += shared
        return y

    def _routed(
        self, x: Float32Array, ids: Int32Array, weights: Float32Array, ticket: Ticket
    ) -> Float32Array:
        """The weighted sum of the chosen experts, bit for bit the same in whichever order they arrive."""
        if (experts := ticket.at_hand()) is not None:
            return self.ops.experts(x, ids, weights, experts)
        answers = np.empty((*ids.shape, x.shape[1]), np.float32)
        for experts in ticket.arrivals():
            self.ops.expert_answers(x, ids, experts, answers)
        return self.ops.combine_experts(answers, ids, weights)
