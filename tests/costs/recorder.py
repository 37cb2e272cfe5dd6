"""`Recorder`: operations that compute as the reference does, and write down what they were asked for.

It counts multiply-adds from the shapes that arrive, and the bytes of the very objects that are read. Nothing
in it knows a config or a formula of `araio.costs`.
"""

from dataclasses import replace

import numpy as np

from araio.codecs import codec_of
from araio.kernels import reference
from araio.kernels.ops import PAGE, Ops

FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


class Recorder:
    """Multiply-adds and bytes since `reset`."""

    def __init__(self) -> None:
        self.reset()
        self.ops: Ops = replace(
            reference.OPS,
            wants_float32=False,  # weights stay as they are stored
            embed=self.embed,
            rms_norm=self.rms_norm,
            linear=self.linear,
            swiglu=self.swiglu,
            route=self.route,
            experts=self.experts,
            expert_answers=self.expert_answers,
            mla_prefill=self.mla_prefill,
            mla_decode=self.mla_decode,
        )

    def reset(self) -> None:
        self.weights = self.attention = 0  # multiply-adds
        self.rows_bytes = self.cache_bytes = 0
        self.read = {}
        self.routes = []

    @property
    def weight_bytes(self) -> int:
        """Of every weight that was read, once, and of the rows that were looked up."""
        return self.rows_bytes + sum(codec_of(w).bytes(w.shape) for w in self.read.values())

    def multiply(self, tokens: int, weight) -> None:
        self.weights += tokens * weight.shape[0] * weight.shape[1]
        self.read[id(weight)] = weight

    def embed(self, ids, weight):
        stored = codec_of(weight)
        together = stored.row_multiple
        self.rows_bytes += len(ids) * stored.bytes((together, weight.shape[1])) // together
        return reference.embed(ids, weight)

    def rms_norm(self, x, weight, eps):
        self.read[id(weight)] = weight
        return reference.rms_norm(x, weight, eps)

    def linear(self, x, weight):
        self.multiply(len(x), weight)
        return reference.linear(x, weight)

    def swiglu(self, x, weights):
        for name in FEED_FORWARD:
            self.multiply(len(x), getattr(weights, name))
        return reference.swiglu(x, weights)

    def route(self, logits, bias, config):
        if bias is not None:
            self.read[id(bias)] = bias
        ids, weights = reference.route(logits, bias, config)
        self.routes.append(ids)
        return ids, weights

    def experts(self, x, ids, weights, experts):
        self.serve(ids, {expert: experts[expert] for expert in np.unique(ids).tolist()})
        return reference.experts(x, ids, weights, experts)

    def expert_answers(self, x, ids, experts, answers) -> None:
        self.serve(ids, experts)
        reference.expert_answers(x, ids, experts, answers)

    def serve(self, ids, experts) -> None:
        for expert, layer in experts.items():
            tokens = np.count_nonzero(ids == expert)
            for name in FEED_FORWARD if tokens else ():
                self.multiply(tokens, getattr(layer, name))

    def mla_prefill(self, q_nope, q_pe, latents, kv_b_proj, scale):
        """Every position is expanded to keys and values, and each query meets those it may see."""
        self.multiply(int(latents.lengths.sum()), kv_b_proj)
        _, H, N = q_nope.shape
        V = kv_b_proj.shape[0] // H - N
        self.attend(latents, H * (N + q_pe.shape[2] + V))
        return reference.mla_prefill(q_nope, q_pe, latents, kv_b_proj, scale)

    def mla_decode(self, q_nope, q_pe, latents, kv_b_proj, scale):
        """The expansion moves to the query and behind the sum; each query meets latents."""
        T, H, _ = q_nope.shape
        self.multiply(T, kv_b_proj)
        C = kv_b_proj.shape[1]
        self.attend(latents, H * (C + q_pe.shape[2] + C))
        return reference.mla_decode(q_nope, q_pe, latents, kv_b_proj, scale)

    def attend(self, latents, multiply_adds_per_pair) -> None:
        for length, tokens in zip(latents.lengths.tolist(), latents.tokens.tolist(), strict=True):
            seen = [length - tokens + t + 1 for t in range(tokens)]
            self.attention += sum(seen) * multiply_adds_per_pair
            self.cache_bytes += length * latents.pages[0].nbytes // PAGE
