"""Held-out loss and balance: what a finished run says about text and problems it never trained on.

Accuracy on problems is `eval/`'s business and needs answers to be generated; this is the cheap measure that
training itself reports, by family, in teacher forcing. Nothing here changes the model or its biases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from araio.train.balance import load_of, max_violation
from araio.train.data import IGNORE, Batch, BatchStream
from araio.train.loss import cross_entropy, mtp_labels
from araio.train.model import SparseModel

__all__ = ["Validation", "validate"]


@dataclass(frozen=True)
class Validation:
    """Measures over held-out documents.

    loss                  nats per learned token by family
    mtp_accuracy          share of tokens after the next that the MTP module names, None without one
    max_violation_global  MaxVio of the loads of all families in the shares of the mix, mean over the main
                          model's layers (arXiv 2408.15664, table 2)
    worst_layer           the largest MaxVio of one of these layers
    """

    loss: dict[str, float]
    mtp_accuracy: float | None
    max_violation_global: float
    worst_layer: float


@torch.no_grad()
def validate(
    model: SparseModel, streams: Mapping[str, BatchStream], mix: Mapping[str, float], batches: int
) -> Validation:
    """Run `batches` batches of each family's held-out stream through the model.

    streams  for each family, a stream of its documents alone
    mix      the family's share of the tokens when their loads are added up
    """
    device = model.lm_head.weight.device
    loss: dict[str, float] = {}
    loads: list[Tensor] = []
    guesses: list[Tensor] = []
    for family, stream in streams.items():
        measured = [measure(model, stream.batch(number).to(device)) for number in range(batches)]
        loss[family] = sum(one.loss for one in measured) / batches
        guesses += [one.mtp_hits for one in measured if one.mtp_hits is not None]
        load_LE = sum((one.loads for one in measured[1:]), measured[0].loads).double()
        loads.append(load_LE / load_LE.sum(1, keepdim=True) * mix[family])
    violations = [max_violation(load_E) for load_E in sum(loads[1:], loads[0])]
    return Validation(
        loss=loss,
        mtp_accuracy=float(torch.cat(guesses).double().mean()) if guesses else None,
        max_violation_global=sum(violations) / len(violations),
        worst_layer=max(violations),
    )


@dataclass(frozen=True)
class Measured:
    """One batch: its loss, the loads (L, E) of the main model's layers, and which MTP guesses were right."""

    loss: float
    loads: Tensor
    mtp_hits: Tensor | None


def measure(model: SparseModel, batch: Batch) -> Measured:
    output = model(batch.tokens, batch.documents, batch.positions)
    hits = None
    if output.mtp_hidden is not None:
        labels = mtp_labels(batch)
        chosen = labels != IGNORE
        hits = model.lm_head(output.mtp_hidden[chosen]).argmax(-1) == labels[chosen]
    main = output.routes[: len(model.config.moe_layers)]
    return Measured(
        loss=float(cross_entropy(model, output.hidden, batch.labels)),
        loads=torch.stack([load_of(route, batch.is_token) for route in main]),
        mtp_hits=hits,
    )
