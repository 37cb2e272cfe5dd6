"""`MoE`: a mixture of experts (DeepSeek-V3 report, equation 12), the shared expert plus the chosen ones.

Who must know what each expert gave, and not only which was chosen, sets an observer; the bits stay the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from araio.kernels.ops import Int32Array, Ops
from araio.nn.batch import Batch, Unwanted
from araio.nn.experts import ExpertSource, Ticket
from araio.nn.linear import SwiGLU
from araio.nn.lookahead import Lookahead
from araio.nn.router import Router
from araio.tensors import Float32Array

__all__ = ["MoE", "Observer"]


class Observer(Protocol):
    """Sees what the chosen experts of a layer gave."""

    def __call__(
        self,
        layer: int,
        ids: Int32Array,
        weights: Float32Array,
        answers: Float32Array,
        residual: Float32Array,
        added: Float32Array,
    ) -> None:
        """Called once for each step and layer; it may keep what it is given and changes nothing.

        ids, weights  (T, K) as the router has decided
        answers       (T, K, D) of the experts, before they are weighted
        residual      (T, D) in front of the layer's norm
        added         (T, D) the weighted sum of the answers, without the shared expert
        """


@dataclass(eq=False)
class MoE:
    """Routes, requests, computes what is there while the rest arrives, and adds.

    shared_experts  one layer of width `n_shared_experts * moe_intermediate_size`, or None
    lookahead       told what this layer will give, as far as that is known before its experts are computed
    observer        sees each expert's answer, if set; the sum is then made of the answers, with the same bits
    """

    gate: Router
    experts: ExpertSource
    shared_experts: SwiGLU | None
    ops: Ops
    lookahead: Lookahead | None = None
    observer: Observer | None = None

    def __call__(self, x: Float32Array, residual: Float32Array, batch: Batch) -> Float32Array:
        """Map x (T, D) to what is added to the residual (T, D).

        residual  from which x was made by the layer's norm
        batch     of the step; its routes get the choice

        Raises:
            Unwanted: as the batch said, before the experts or while they were waited for.
        """
        ids, weights = self.gate(x, batch.is_decoded, batch.masks)
        if batch.routes is not None:
            batch.routes.add(ids, weights)
        ticket = self.experts.request(self.gate.layer, ids)
        shared = self.shared_experts(x) if self.shared_experts is not None else None
        if self.lookahead is not None:
            known = residual if shared is None else residual + shared
            self.lookahead(self.gate.layer, known, batch.is_decoded, batch.masks)
        if self.observer is None and (experts := ticket.at_hand()) is not None:
            batch.pause()
            y = self.ops.experts(x, ids, weights, experts)
        else:
            y = self._as_they_arrive(x, ids, weights, ticket, residual, batch)
        if shared is not None:
            y += shared
        return y

    def _as_they_arrive(
        self,
        x: Float32Array,
        ids: Int32Array,
        weights: Float32Array,
        ticket: Ticket,
        residual: Float32Array,
        batch: Batch,
    ) -> Float32Array:
        """The weighted sum of the chosen experts, bit for bit the same whatever order they come in.

        A layer may wait for the disk longer than its caller waits for a request that was cancelled.
        """
        answers = np.empty((*ids.shape, x.shape[1]), np.float32)
        for experts in ticket.arrivals():
            if batch.is_unwanted():
                ticket.give_up()
                raise Unwanted
            self.ops.expert_answers(x, ids, experts, answers)
        y = self.ops.combine_experts(answers, ids, weights)
        if self.observer is not None:
            # A copy: the shared expert is added in place.
            self.observer(self.gate.layer, ids, weights, answers, residual, y.copy())
        return y
