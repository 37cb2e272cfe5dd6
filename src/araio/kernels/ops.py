"""`Ops`: the table of every large operation that `nn/` asks for, bound once at load.

Activations are float32 NumPy arrays, outputs are new arrays. Weights are what `hold` made of a stored
`tensors.Weight`: each backend keeps them in the form that it multiplies by.
The docstring of each operation's type is its contract; `reference.py` is its definition in code, and
`select.py` fills the table with the best implementation this machine has.

Letters: T tokens of the step, B sequences, S cached positions of one, D hidden_size, H heads,
N qk_nope_head_dim, R qk_rope_head_dim, V v_head_dim, C kv_lora_rank, P pages of the latent cache, E experts,
K experts per token, F width of a feed-forward layer, W vocabulary, I and O the input and output size of a
linear layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from araio.codecs import Codec
from araio.codecs.fp8 import FP8
from araio.config import ModelConfig
from araio.tensors import Float32Array, Weight

__all__ = [
    "OPERATIONS",
    "PAGE",
    "CombineExperts",
    "Embed",
    "ExpertAnswers",
    "Experts",
    "FeedForward",
    "Hold",
    "Int32Array",
    "Int64Array",
    "IntArray",
    "LatentPages",
    "Latents",
    "Linear",
    "Matrix",
    "MultiHeadLatentAttention",
    "Ops",
    "RMSNorm",
    "Rope",
    "Route",
    "StoreLatents",
    "SwiGLU",
]

PAGE = 128
"""Positions in a page of the latent cache, which is also what attention works on at a time: sums over the
positions of a page come first, then those over pages, so that an answer depends on positions alone."""

Int32Array: TypeAlias = npt.NDArray[np.int32]
Int64Array: TypeAlias = npt.NDArray[np.int64]
IntArray: TypeAlias = npt.NDArray[np.integer]
LatentPages: TypeAlias = Float32Array | npt.NDArray[np.uint16]
"""One layer's pages (P, PAGE, C + R): float32, or bfloat16 as its bits. A latent is the normalised `c_kv`,
then the rotated `k_pe`, of one position."""
Matrix: TypeAlias = Any
"""A weight in its backend's hands: what `Ops.hold` made of it, with a `shape` (O, I) and of use to that
backend alone."""


class Hold(Protocol):
    """Takes a stored weight over. It may refer to the weight's memory, and keeps it alive.

    Where `Ops.holds_in_place` it does no more than that: the bytes of another weight, of the same shape and
    stored in the same way, may be written over those that are held, as long as no operation is at them.
    """

    def __call__(self, weight: Weight) -> Matrix:
        """Give the form that the backend's other operations take.

        weight   (O, I) in any way of storing, each of its arrays contiguous
        """


@dataclass(frozen=True)
class FeedForward:
    """The three matrices of one SwiGLU feed-forward layer: a dense layer, a shared expert, a routed expert.

    gate_proj  (F, D)
    up_proj    (F, D)
    down_proj  (D, F)
    """

    gate_proj: Matrix
    up_proj: Matrix
    down_proj: Matrix


class Embed(Protocol):
    """`y[t] = weight[ids[t]]`."""

    def __call__(self, ids: IntArray, weight: Matrix) -> Float32Array:
        """Look up rows.

        ids      (T,) integers in [0, W)
        weight   (W, D)
        returns  (T, D)
        """


class RMSNorm(Protocol):
    """`y = x / sqrt(mean(x^2) + eps) * weight` over the last dim (Zhang and Sennrich 2019, equation 4)."""

    def __call__(self, x: Float32Array, weight: Float32Array, eps: float) -> Float32Array:
        """Normalise each row.

        x        (T, D)
        weight   (D,) float32
        returns  (T, D)
        """


class Linear(Protocol):
    """`y = x weight^T`."""

    def __call__(self, x: Float32Array, weight: Matrix) -> Float32Array:
        """Multiply by a stored matrix.

        x        (T, I)
        weight   (O, I)
        returns  (T, O)
        """


class Rope(Protocol):
    """Rotary position embedding of interleaved pairs (Su et al. 2021, equation 34).

    `(y[2i], y[2i+1]) = (x[2i] cos_i - x[2i+1] sin_i, x[2i] sin_i + x[2i+1] cos_i)`
    """

    def __call__(self, x: Float32Array, cos: Float32Array, sin: Float32Array) -> Float32Array:
        """Rotate the pairs of each head by the angle of its token.

        x         (T, H, R)
        cos, sin  (T, R / 2)
        returns   (T, H, R), pairs still interleaved
        """


class SwiGLU(Protocol):
    """`y = (silu(x gate^T) * (x up^T)) down^T` with `silu(a) = a * sigmoid(a)` (Shazeer 2020, equation 6)."""

    def __call__(self, x: Float32Array, weights: FeedForward) -> Float32Array:
        """Apply one feed-forward layer.

        x        (T, D)
        returns  (T, D)
        """


class Route(Protocol):
    """Which experts each token uses, and with what weight; the rule is the config's.

    `softmax` (DeepSeek-V2 report, equations 20 to 22 and section 2.2.2): `s = softmax(logits)`. With
    `group_limited_greedy` a group's score is the best `s` in it, and `s` becomes 0 outside the `topk_group`
    best groups. The K largest `s` are chosen. Their weights are `s / sum(s)` if `norm_topk_prob` and K > 1,
    and `s * routed_scaling_factor` otherwise: one or the other, as in DeepSeek's own V2 code.

    `sigmoid` with `noaux_tc` (DeepSeek-V3 report, equations 12 to 16): `s = sigmoid(logits)`, and
    `c = s + bias` decides alone. A group's score is the sum of its two best `c`; outside the `topk_group`
    best groups `c` becomes -inf (not 0, which would beat a negative `c`). The K largest `c` are chosen. Their
    weights come from `s`: divided by their sum if `norm_topk_prob`, then times `routed_scaling_factor`.

    Ties, among groups as among experts, go to the lowest id.
    """

    def __call__(
        self, logits: Float32Array, bias: Float32Array | None, config: ModelConfig
    ) -> tuple[Int32Array, Float32Array]:
        """Choose K experts for each token.

        logits   (T, E)
        bias     (E,), None for the softmax family
        returns  ids (T, K) int32, distinct within a row, best first; weights (T, K) float32
        """


class Experts(Protocol):
    """`y[t] = sum over k of weights[t, k] * swiglu(x[t], experts[ids[t, k]])` (V3 report, equation 12).

    All chosen experts of a layer in one call, grouped by expert, so that each expert's weights are read once.
    A token's terms are added in ascending order of expert id.
    """

    def __call__(
        self, x: Float32Array, ids: Int32Array, weights: Float32Array, experts: Mapping[int, FeedForward]
    ) -> Float32Array:
        """Apply the routed experts.

        x        (T, D)
        ids      (T, K) int32, distinct within a row
        weights  (T, K)
        experts  by id; at least those in `ids`
        returns  (T, D), without the shared expert
        """


class ExpertAnswers(Protocol):
    """`answers[t, k] = swiglu(x[t], experts[ids[t, k]])`, for the experts that are there.

    Experts may so be computed in the order in which they arrive: once all have had their turn, in calls of
    any size and in any order, `CombineExperts` gives the bits that `Experts` would have given.
    """

    def __call__(
        self, x: Float32Array, ids: Int32Array, experts: Mapping[int, FeedForward], answers: Float32Array
    ) -> None:
        """Write the answers of some experts.

        x        (T, D)
        ids      (T, K) int32, distinct within a row
        experts  by id; those that no token chose are not looked at
        answers  (T, K, D), changed in place where `experts` has the id, and left as it was elsewhere
        """


class CombineExperts(Protocol):
    """`y[t] = sum over k of weights[t, k] * answers[t, k]`, in ascending order of expert id."""

    def __call__(self, answers: Float32Array, ids: Int32Array, weights: Float32Array) -> Float32Array:
        """Add up the answers of each token.

        answers  (T, K, D), all of them written
        ids      (T, K) int32, distinct within a row
        weights  (T, K)
        returns  (T, D)
        """


class Latents(NamedTuple):
    """What the cache holds of some sequences in one layer, and which queries of a call are theirs.

    pages    (P, PAGE, C + R), those of other sequences among them
    tables   (B, ceil(longest S / PAGE) or more) int64: the pages of each sequence, in order
    lengths  (B,) int64: S of each
    tokens   (B,) int64: queries of each; those of one sequence come before those of the next
    """

    pages: LatentPages
    tables: Int64Array
    lengths: Int64Array
    tokens: Int64Array

    @classmethod
    def of_one(cls, pages: LatentPages, table: Int64Array, length: int, tokens: int) -> Latents:
        """Those of a single sequence, with its `table` (ceil(length / PAGE) or more,)."""
        return cls(pages, table[None], np.array([length]), np.array([tokens]))


class StoreLatents(Protocol):
    """`pages[slot // PAGE, slot % PAGE] = [c_kv, k_pe]`; bfloat16 is rounded to the nearest, ties to even."""

    def __call__(self, c_kv: Float32Array, k_pe: Float32Array, slots: Int64Array, pages: LatentPages) -> None:
        """Write the latents of a step, which may belong to several sequences.

        c_kv   (T, C) normalised
        k_pe   (T, R) rotated
        slots  (T,) where each goes, in [0, P * PAGE)
        pages  (P, PAGE, C + R), changed in place
        """


class MultiHeadLatentAttention(Protocol):
    """Causal attention over the latent cache (DeepSeek-V2 report, section 2.1 and appendix C).

    With `k_h = [w_uk_h c_kv, k_pe]` and `v_h = w_uv_h c_kv`, where `w_uk_h` and `w_uv_h` are the first N and
    the last V rows of head h in `kv_b_proj`:

    `y[t, h] = sum over s of softmax_s(scale * q[t, h] . k_h[s]) * v_h[s]`, for `s <= S - T + t`,

    where t counts the T queries of one sequence, of which S positions are cached: sequences see nothing of
    each other.

    The same numbers come out of two forms. *Expanded* computes `k_h` and `v_h` for every position: less work
    per pair of positions, worth it for many queries. *Absorbed* moves `w_uk` to the query and `w_uv` behind
    the sum, so that attention runs on the latents themselves: no expansion, the form for decoding.

    Within one form, compiled operations give a query the same bits whatever else is in the call, on any
    number of threads.
    """

    def __call__(
        self, q_nope: Float32Array, q_pe: Float32Array, latents: Latents, kv_b_proj: Matrix, scale: float
    ) -> Float32Array:
        """Attend from the last positions of each sequence.

        q_nope     (T, H, N) of all sequences
        q_pe       (T, H, R) rotated
        latents    of B sequences; `tokens` add up to T, and none has more of them than positions
        kv_b_proj  (H * (N + V), C)
        scale      multiplies the scores before the softmax
        returns    (T, H, V)
        """


@dataclass(frozen=True)
class Ops:
    """One implementation of every operation; the contract of each is the docstring of its type.

    wants_float32  bfloat16 weights are best handed to `hold` as float32, where the memory allows it
    fp8_columns    what the columns of an fp8 block are a multiple of; `hold` makes float32 of other blocks
    """

    wants_float32: bool
    fp8_columns: int
    hold: Hold
    embed: Embed
    rms_norm: RMSNorm
    linear: Linear
    rope: Rope
    swiglu: SwiGLU
    route: Route
    experts: Experts
    expert_answers: ExpertAnswers
    combine_experts: CombineExperts
    store_latents: StoreLatents
    mla_prefill: MultiHeadLatentAttention
    mla_decode: MultiHeadLatentAttention

    def holds_in_place(self, stored: Codec[Any]) -> bool:
        """Whether `hold` keeps the very bytes of a weight stored like this, and not a float32 copy of it."""
        return not isinstance(stored, FP8) or stored.block[1] % self.fp8_columns == 0


OPERATIONS = tuple(
    field.name for field in fields(Ops) if field.name not in ("wants_float32", "fp8_columns", "hold")
)
"""Names of what is computed, in the order of the table."""
