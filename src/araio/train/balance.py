"""Balancing experts without an auxiliary loss, and the measures of how well it works.

Wang et al. 2024 (arXiv 2408.15664) and the DeepSeek-V3 report, section 2.1.2: after each step, the bias of an
overloaded expert goes down by a fixed speed and that of an underloaded one goes up. The bias moves the choice
of experts only, never their weights, so no gradient fights the language model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from araio.train.model import Route, Router

__all__ = ["LoadMeter", "LoadReport", "load_of", "max_violation", "update_bias"]


def load_of(route: Route, is_token: Tensor) -> Tensor:
    """How many tokens (E,) chose each expert, padding left out.

    All padding is one token and chooses the same few experts, which would then be kept from real tokens.

    is_token  (B, T) of the batch; the routes of the MTP module are one position shorter
    """
    ids_NK = route.ids[is_token[:, : route.ids.shape[1]]]
    return torch.bincount(ids_NK.flatten(), minlength=route.scores.shape[-1])


@torch.no_grad()
def update_bias(router: Router, counts_E: Tensor, speed: float) -> None:
    """`bias += speed * sign(mean load - load)`; counts are of the whole batch, over all ranks."""
    load = counts_E.float()
    router.e_score_correction_bias += speed * (load.mean() - load).sign()


def max_violation(counts_E: Tensor) -> float:
    """MaxVio: load of the busiest expert over the mean load, minus 1 (arXiv 2408.15664, equation 4)."""
    load = counts_E.double()
    return float(load.max() / load.mean().clamp(min=1e-12) - 1)


@dataclass(frozen=True)
class LoadReport:
    """Balance over a window of steps.

    max_violation_batch   MaxVio of single batches, mean over steps and layers
    max_violation_global  MaxVio of the summed counts, mean over layers
    worst_layer           the largest global MaxVio of a layer
    entropy               entropy of the summed loads over its maximum, mean over layers; 1 is uniform
    dead_experts          experts over all layers that no token of the window chose
    """

    max_violation_batch: float
    max_violation_global: float
    worst_layer: float
    entropy: float
    dead_experts: int


class LoadMeter:
    """Sums the tokens per expert of every routed layer between two log lines."""

    def __init__(self) -> None:
        self.totals: dict[int, Tensor] = {}
        self.batch_violations: list[float] = []

    def add(self, counts: list[Tensor]) -> None:
        """Take the counts (E,) of each routed layer for one step, first layer to last.

        Layers may be missing at the end: an MTP module routes nothing in a stage that gives it no weight.
        """
        self.batch_violations.append(sum(map(max_violation, counts)) / len(counts))
        for layer, counts_E in enumerate(counts):
            total = self.totals.get(layer)
            self.totals[layer] = counts_E if total is None else total + counts_E

    def take(self) -> LoadReport:
        """Report on what was added since the last call, and start anew."""
        totals = list(self.totals.values())
        violations = [max_violation(total) for total in totals]
        layers = len(totals)
        report = LoadReport(
            max_violation_batch=sum(self.batch_violations) / len(self.batch_violations),
            max_violation_global=sum(violations) / layers,
            worst_layer=max(violations),
            entropy=sum(map(relative_entropy, totals)) / layers,
            dead_experts=sum(int((total == 0).sum()) for total in totals),
        )
        self.totals, self.batch_violations = {}, []
        return report


def relative_entropy(counts_E: Tensor) -> float:
    """Entropy of the load distribution over log E: 1 where all experts are used alike."""
    share = counts_E.double() / counts_E.sum().clamp(min=1)
    entropy = -(share * share.clamp(min=1e-300).log()).sum()
    return float(entropy / torch.tensor(float(len(counts_E)), dtype=torch.float64).log())
