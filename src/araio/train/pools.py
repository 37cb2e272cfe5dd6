"""`Pools`: each document may choose from a few experts only, so that those few come to suffice for its kind.

A mixture of experts that is trained as usual cannot be cut to the experts of a domain: any text needs nearly
all of them. Where every document must make do with a pool, documents that are alike come to share one, with
nobody saying what they are about (Emo, arXiv 2605.06663). A document's pool are the experts that it would
choose most, by the mean of its tokens' choice scores, the balancing bias included. Its size is drawn anew for
each document and step, so that the model works with few experts and with all. Pools hold equally many of
every group, as a checkpoint that is cut to one must. Read `model.py` for where the choice is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

__all__ = ["Pools", "draw_pools"]


@dataclass(frozen=True)
class Pools:
    """How many experts of each group each document of a batch may choose from.

    documents  (B, T) int64  the document of each token, numbered within its row from 0 to below T
    per_group  (B, T) int64  of the token's document, the same for all of its tokens
    """

    documents: Tensor
    per_group: Tensor

    def before_last(self) -> Pools:
        """Of all positions but the last one of each row."""
        return Pools(self.documents[:, :-1], self.per_group[:, :-1])

    def restrict(self, choice_BTE: Tensor, n_group: int) -> Tensor:
        """Choice scores (B, T, E) with -inf for the experts outside of each token's pool.

        -inf before groups are scored: a group's score then counts the pool's experts only.
        """
        B, T, E = choice_BTE.shape
        of_document = self.documents[..., None].expand(B, T, E)
        # A sum orders the experts of a document as their mean does.
        sums = torch.zeros_like(choice_BTE).scatter_add_(1, of_document, choice_BTE)
        grouped = sums.view(B, T, n_group, E // n_group)
        rank = grouped.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).view(B, T, E)
        is_outside = rank.gather(1, of_document) >= self.per_group[..., None]
        return choice_BTE.masked_fill(is_outside, -math.inf)


def draw_pools(documents: Tensor, experts: Sequence[int], n_group: int, seed: int, step: int) -> Pools:
    """Pools for one step: every document has a size of its own, the same whenever the step is run.

    documents  (B, T) of the batch
    experts    the smallest and the largest pool, multiples of `n_group`; all sizes between are as likely
    """
    low, high = (size // n_group for size in experts)
    rng = Random(f"pools {seed} {step}")
    sizes = torch.tensor([[rng.randint(low, high) for _ in row] for row in documents.tolist()])
    return Pools(documents, sizes.to(documents.device).gather(1, documents))
