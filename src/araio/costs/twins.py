"""Dense twins of a mixture of experts: the same model in which nothing is chosen, to compare with.

A twin has the layers, the attention, the tables and the widths of its original, so that what differs is
sparsity alone. It is a model to reckon with, not one that anybody trained.
"""

from __future__ import annotations

from dataclasses import replace

from araio.config import ModelConfig
from araio.costs.checks import require_experts

__all__ = ["twin_of_active_size", "twin_of_total_size"]


def twin_of_total_size(config: ModelConfig) -> ModelConfig:
    """Every token is given to every expert: as many parameters, all of them active.

    Raises CostError for a model without experts.
    """
    require_experts(config)
    return replace(config, num_experts_per_tok=config.n_routed_experts, topk_group=config.n_group)


def twin_of_active_size(config: ModelConfig) -> ModelConfig:
    """Only as many experts exist as a token is given to: as many active parameters, and no others.

    Routers shrink with the experts that they choose from. Raises CostError for a model without experts.
    """
    require_experts(config)
    return replace(config, n_routed_experts=config.num_experts_per_tok, n_group=1, topk_group=1)
