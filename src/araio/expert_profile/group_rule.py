"""`shortage`: whether a router that may choose some experts only can always choose as many as a token needs.

A router with groups first chooses groups, and which of them win depends on the token; what is kept must do
for each of the possible outcomes. `least_per_group` says how many of each group always do. Read
`kernels/ops.py` for the rule itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from araio.config import ModelConfig

__all__ = ["least_per_group", "shortage"]


def shortage(counts: Sequence[int], config: ModelConfig) -> str | None:
    """What a token could come short of where a router may choose so many of each group; None if never.

    A sigmoid router scores a group by its best two experts, so that a group of fewer scores -inf. Were it to
    choose such a group, it would be for want of others, by a rule of ties in which engines differ; so groups
    with a score must be as many as a token needs.
    """
    needed, wins = config.num_experts_per_tok, config.topk_group
    if config.topk_method == "greedy" or wins == config.n_group:
        total = sum(counts)
        return None if total >= needed else f"it keeps {total}, and each token needs {needed}"
    least = 2 if config.scoring_func == "sigmoid" else 1
    able = sorted((count, group) for group, count in enumerate(counts) if count >= least)
    if least == 2 and len(able) < wins:
        unable = [group for group, count in enumerate(counts) if count < least]
        return (
            f"groups {unable} keep fewer than 2 experts, with which a group can never win, and each token "
            f"needs {wins} groups"
        )
    worst = able[:wins]
    total = sum(count for count, _ in worst)
    if total >= needed:
        return None
    groups = sorted(group for _, group in worst)
    return f"groups {groups} keep {total} together, and a token that they win needs {needed}"


def least_per_group(config: ModelConfig) -> int:
    """How many experts of each of `config.choice_groups` are enough for a token, whichever groups win."""
    groups = config.choice_groups
    winners = 1 if groups == 1 else config.topk_group
    least = -(-config.num_experts_per_tok // winners)
    return max(least, 2) if groups > 1 and config.has_router_bias else least
