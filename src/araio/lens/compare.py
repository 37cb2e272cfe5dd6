"""Two traces of the same tokens: do a model's routes change with precision, training, or what is left out.

Compared are tokens of the same place: sequence, position and, where both are known, token id. Two runs that
wrote different texts are compared as far as the texts agree, and two of different prompts are refused. What
differs says that routes changed, not that answers did. Of other texts only the loads can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.lens.load import shares
from araio.lens.result import Result
from araio.lens.routes import BoolArray, Float64Array, IntArray, Routes
from araio.lens.specialisation import Divergence, divergence, jensen_shannon_bits

__all__ = ["Comparison", "compare", "compare_loads", "saturation"]


@dataclass(frozen=True)
class Comparison(Result):
    """How much two routes of the same T tokens agree, L layers.

    tokens      that both have
    share       of the tokens of the shorter one that is
    jaccard     (L,) experts in common over experts of either, mean over tokens
    overlap     (L,) experts in common over K
    first       (L,) share of tokens whose expert of the largest weight is the same
    identical   (L,) share of tokens with the same K experts
    whole_path  share of tokens with the same experts in every layer
    load_bits   (L,) Jensen-Shannon divergence of the loads
    """

    tokens: int
    share: float
    jaccard: Float64Array
    overlap: Float64Array
    first: Float64Array
    identical: Float64Array
    whole_path: float
    load_bits: Float64Array


def compare(one: Routes, other: Routes) -> Comparison:
    """How much two routes agree.

    Raises:
        TraceError: other numbers of experts or layers, or no token in common.
    """
    rows, other_rows = _same_tokens(one, other)
    a, b = one.experts[rows], other.experts[other_rows]
    common = _in_common(a, b)
    top_k = a.shape[2]
    is_same = common == top_k
    loads = [shares(_loads(ids, one.n_experts)) for ids in (a, b)]
    return Comparison(
        tokens=len(rows),
        share=len(rows) / min(one.tokens, other.tokens),
        jaccard=(common / (2 * top_k - common)).mean(0),
        overlap=common.mean(0) / top_k,
        first=(a[..., 0] == b[..., 0]).mean(0),
        identical=is_same.mean(0),
        whole_path=float(is_same.all(1).mean()),
        load_bits=jensen_shannon_bits(loads[0], loads[1]),
    )


def saturation(checkpoints: Sequence[Routes], final: Routes) -> Float64Array:
    """(checkpoints, L) share of the K experts that each had chosen already (OLMoE, arXiv 2409.02060).

    Raises:
        TraceError: as `compare`.
    """
    return np.stack([compare(earlier, final).overlap for earlier in checkpoints])


def compare_loads(one: Routes, other: Routes, seed: int = 0) -> Divergence:
    """How much the loads of two traces differ, of whatever tokens, beside the floor that halves of each show.

    The two are domains 0 and 1 of the result. Different texts use different experts: that is no difference of
    models.

    Raises:
        TraceError: other numbers of experts or layers.
    """
    _check_shapes(one, other)
    both = Routes.from_arrays(
        np.concatenate([one.experts, other.experts]),
        one.n_experts,
        seq=np.concatenate([one.seq, other.seq + one.sequences]),
        domain=np.repeat([0, 1], [one.tokens, other.tokens]),
    )
    return divergence(both, seed)


def _check_shapes(one: Routes, other: Routes) -> None:
    for what, a, b in (
        ("experts", one.n_experts, other.n_experts),
        ("layers with experts", one.depth, other.depth),
        ("experts of a token", one.top_k, other.top_k),
    ):
        if a != b:
            raise TraceError(f"the one trace has {a} {what} and the other {b}; expected traces of one model")


def _same_tokens(one: Routes, other: Routes) -> tuple[IntArray, IntArray]:
    """The rows of either that stand at the same place and hold the same token."""
    _check_shapes(one, other)
    # A sequence may begin behind what a prefix cache held: places count by position, not by row.
    span = int(max(one.position.max(), other.position.max())) + 1
    keys = [routes.seq * span + routes.position for routes in (one, other)]
    _, rows, other_rows = np.intersect1d(keys[0], keys[1], assume_unique=False, return_indices=True)
    agrees: BoolArray = np.ones(len(rows), bool)
    if one.token_id is not None and other.token_id is not None:
        agrees = one.token_id[rows] == other.token_id[other_rows]
        # A token that follows a different one is another token, whatever its id.
        agrees &= _up_to_first_difference(agrees, one.seq[rows])
    if not agrees.any():
        raise TraceError(
            "the two traces have no token in common; record both with the same prompts in the same order"
        )
    return rows[agrees], other_rows[agrees]


def _up_to_first_difference(agrees: BoolArray, seq: IntArray) -> BoolArray:
    differences = np.cumsum(~agrees)
    begins = np.searchsorted(seq, seq)
    before = np.where(begins > 0, differences[begins - 1], 0)
    return np.asarray(differences == before)


def _in_common(a: IntArray, b: IntArray) -> npt.NDArray[np.int64]:
    """(T, L) experts that are in both of (T, L, K)."""
    common = np.zeros(a.shape[:2], np.int64)
    for rank in range(b.shape[2]):
        common += (a == b[..., rank : rank + 1]).any(-1)
    return common


def _loads(ids: IntArray, experts: int) -> npt.NDArray[np.int64]:
    return np.stack([np.bincount(layer.ravel(), minlength=experts) for layer in ids.swapaxes(0, 1)])
