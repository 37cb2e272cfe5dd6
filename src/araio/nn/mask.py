"""`ExpertMask`: the experts that routers may choose for a request, as if the model had no others.

What is hidden is out of sight before a router compares anything: a sigmoid router with groups would else give
its places to groups whose experts are gone, and a softmax would share its sum with them. So a model with a
mask chooses what the smaller model of the same experts chooses, and weighs it alike. Read `router.py` for the
one caller, `expert_profile/group_rule.py` for why there are always enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from araio.config import ModelConfig
from araio.expert_profile import ExpertProfile
from araio.kernels.ops import Int32Array, Route
from araio.tensors import Float32Array

__all__ = ["HIDDEN", "ExpertMask", "MaskedRows", "Masks", "masks_of", "route_among"]

HIDDEN = np.float32(-np.inf)
"""What takes the place of an expert's bias, or of its logit, where a mask hides it."""


class ExpertMask:
    """Of a profile that has been checked against the model.

    id    the same for masks that hide the same experts
    name  of the profile
    """

    def __init__(self, profile: ExpertProfile) -> None:
        self.id = profile.id
        self.name = profile.name
        self._kept: dict[int, npt.NDArray[np.bool_]] = {}
        for layer, ids in profile.keep.items():
            self._kept[layer] = np.isin(np.arange(profile.model.n_routed_experts), ids)

    def kept(self, layer: int) -> npt.NDArray[np.bool_] | None:
        """Of each expert (E,), whether the layer may choose it; None where it may choose all.

        All are there for the multi-token-prediction module, whose drafts the model checks.
        """
        return self._kept.get(layer)


class MaskedRows(NamedTuple):
    """Rows of a step that have the same mask, or none."""

    mask: ExpertMask | None
    rows: slice | npt.NDArray[np.int64]


Masks: TypeAlias = Sequence[MaskedRows]
"""Every row of a step, once; empty where no row has a mask."""


def masks_of(masks: Sequence[ExpertMask | None], sizes: Sequence[int]) -> Masks:
    """The rows of sequences that lie side by side, so many of each, by their masks."""
    distinct = {None if mask is None else mask.id: mask for mask in masks}
    if len(distinct) == 1:
        only = masks[0]
        return () if only is None else (MaskedRows(only, slice(None)),)
    by_row = np.repeat([mask.id if mask else "" for mask in masks], sizes)
    return [MaskedRows(mask, np.flatnonzero(by_row == (id_ or ""))) for id_, mask in distinct.items()]


def route_among(
    kept: npt.NDArray[np.bool_],
    route: Route,
    logits: Float32Array,
    bias: Float32Array | None,
    config: ModelConfig,
) -> tuple[Int32Array, Float32Array]:
    """The router's rule for a model that has only the experts that are kept; see `kernels.ops.Route`.

    kept  (E,)
    """
    if bias is None:
        logits = np.where(kept, logits, HIDDEN)
    else:
        bias = np.where(kept, bias, HIDDEN)
    ids, weights = route(logits, bias, config)
    if not kept[ids].all():
        # A softmax gives 0 to what is far behind, as to what is hidden, and ties go to the lowest id.
        for row in np.flatnonzero(~kept[ids].all(axis=1)):
            ids[row] = _without_hidden(ids[row], kept)
    return ids, weights


def _without_hidden(ids: Int32Array, kept: npt.NDArray[np.bool_]) -> Int32Array:
    """A row (K,) that ends in ties, with the lowest ids that are kept in place of those that are not.

    The weights of all that tie are alike, so they stay as they are.
    """
    chosen = ids[kept[ids]]
    others = np.setdiff1d(np.flatnonzero(kept), chosen)
    return np.concatenate([chosen, others])[: len(ids)].astype(np.int32)
