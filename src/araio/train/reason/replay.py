"""Routing replay: the trainer uses the experts that an answer was written with, whatever it would choose now.

Once the weights have moved, or where trainer and engine round differently, the router's choice may differ
from that at sampling, and with it the whole function whose probability is compared. With replay the ids are
the recorded ones and the gate weights are those of the current scores at these ids, so the router goes on
learning (rollout routing replay, arXiv 2510.11370). On-policy in float32 it changes nothing, which is tested.
The same hook counts how often the choices agree. Read `train/model.py`, `Router.on_choice`, for the seam.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from araio.train.model import SparseModel

__all__ = ["Agreement", "watching_routes"]


@dataclass
class Agreement:
    """How many of the recorded choices the trainer would make again."""

    same: int = 0
    choices: int = 0

    @property
    def share(self) -> float:
        """Of the choices; 1 where there were none."""
        return self.same / self.choices if self.choices else 1.0

    def count(self, chosen: Tensor, recorded: Tensor) -> None:
        """Compare ids (B, T, K), in any order within a token; -1 where nothing was recorded."""
        agrees = (recorded[..., :, None] == chosen[..., None, :]).any(-1)
        is_recorded = recorded >= 0
        self.same += int((agrees & is_recorded).sum())
        self.choices += int(is_recorded.sum())


@contextmanager
def watching_routes(
    model: SparseModel, recorded: Tensor, agreement: Agreement, *, replays: bool
) -> Iterator[None]:
    """While this is open, the main model's routers count agreement with what was recorded, or follow it.

    recorded  (B, T, M, K) int64 ids for the M routed layers; -1 where the router decides by itself
    """
    routers = model.routers()[: recorded.shape[2]]

    def follow(chosen: Tensor, layer: int) -> Tensor:
        ids = recorded[:, :, layer]
        agreement.count(chosen, ids)
        return torch.where(ids < 0, chosen, ids) if replays else chosen

    for layer, router in enumerate(routers):
        router.on_choice = lambda chosen, layer=layer: follow(chosen, layer)
    try:
        yield
    finally:
        for router in routers:
            router.on_choice = None
