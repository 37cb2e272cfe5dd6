"""What training minimises: next-token cross entropy, the MTP loss, and a small balance loss within sequences.

Read `train/balance.py` for what does most of the balancing; the loss here only keeps single sequences from
extremes (DeepSeek-V3 report, section 2.1.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from araio.config import ModelConfig
from araio.train.data import IGNORE, Batch
from araio.train.model import Route, SparseModel
from araio.train.pools import Pools

__all__ = ["Loss", "compute_loss", "sequence_balance_loss"]


@dataclass(frozen=True)
class Loss:
    """The sum that is differentiated, and its parts for the log."""

    total: Tensor
    next_token: Tensor
    mtp: Tensor
    balance: Tensor
    routes: list[Route]


def compute_loss(
    model: SparseModel, batch: Batch, mtp_weight: float, balance_weight: float, pools: Pools | None = None
) -> Loss:
    """Forward pass and losses: `total = next_token + mtp_weight * mtp + balance_weight * balance`.

    The output matrix is applied only where there is a label: on conversations that is half of all positions.
    """
    with_mtp = mtp_weight > 0
    output = model(batch.tokens, batch.documents, batch.positions, with_mtp=with_mtp, pools=pools)
    next_token = cross_entropy(model, output.hidden, batch.labels)
    mtp = next_token.new_zeros(())
    if output.mtp_hidden is not None:
        mtp = cross_entropy(model, output.mtp_hidden, mtp_labels(batch))
    balance = next_token.new_zeros(())
    if balance_weight > 0:
        for route in output.routes:
            balance = balance + sequence_balance_loss(route, batch.is_token, model.config)
    total = next_token + mtp_weight * mtp + balance_weight * balance
    return Loss(total, next_token, mtp, balance, output.routes)


def cross_entropy(model: SparseModel, hidden: Tensor, labels: Tensor) -> Tensor:
    """Mean over the positions of hidden (B, T, D) that have a label in labels (B, T)."""
    chosen = labels != IGNORE
    logits = model.lm_head(hidden[chosen]).float()
    return F.cross_entropy(logits, labels[chosen])


def mtp_labels(batch: Batch) -> Tensor:
    """Labels (B, T-1) of the MTP module: the token after the next one, never of another document."""
    same_document = batch.documents[:, 1:] == batch.documents[:, :-1]
    return torch.where(same_document, batch.labels[:, 1:], IGNORE)


def sequence_balance_loss(route: Route, is_token: Tensor, config: ModelConfig) -> Tensor:
    """Complementary sequence-wise balance loss (DeepSeek-V3 report, equations 17 to 20), without its factor.

    `sum_i f_i P_i` with `f_i = E / (K T) * count_i` and `P_i` the mean share of expert i in the scores, both
    over the T tokens of a row; the mean over the rows that have any. It is 1 where every expert is used
    alike. Padding is left out: it is one token many times over, and all of it chooses the same experts.

    is_token  (B, T) of the batch; the routes of the MTP module are one position shorter
    """
    is_token_BT = is_token[:, : route.scores.shape[1]].to(route.scores.dtype)
    tokens_B1 = is_token_BT.sum(1, keepdim=True)
    share_BTE = route.scores / route.scores.sum(-1, keepdim=True)
    share_BE = (share_BTE * is_token_BT[..., None]).sum(1) / tokens_B1.clamp(min=1)
    chosen_BTE = torch.zeros_like(share_BTE).scatter_(-1, route.ids, 1.0)
    count_BE = (chosen_BTE * is_token_BT[..., None]).sum(1)
    E, K = route.scores.shape[-1], config.num_experts_per_tok
    frequency_BE = count_BE * (E / K) / tokens_B1.clamp(min=1)
    # A row of padding alone adds 0 to the sum, and must not add 1 to the number of rows.
    rows = (tokens_B1 > 0).sum().clamp(min=1)
    return (frequency_BE * share_BE).sum() / rows
