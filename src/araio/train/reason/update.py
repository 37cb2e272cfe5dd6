"""`PolicyUpdate`: the gradient of an objective over sampled answers, and what is measured on the way.

The gradient is summed over batches, so that its size does not depend on how answers were packed: all weights
of tokens are those of the whole update. The ratio is taken to the engine's own log-probabilities, so a
difference between engine and trainer is corrected for like one between old weights and new. The MTP module
has a loss of its own that moves nothing but itself: it learns to draft what the policy has come to say.
Read `objectives.py` for the equations, `batch.py` for the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from araio.train.data import IGNORE
from araio.train.loss import mtp_labels
from araio.train.model import SparseModel
from araio.train.reason.batch import PolicyBatch, Scored
from araio.train.reason.objectives import Objective, k3, surrogate
from araio.train.reason.replay import Agreement, watching_routes

__all__ = ["Measures", "PolicyUpdate"]


@dataclass
class Measures:
    """Sums over the tokens of an update, or of several.

    surrogate      of the objective that is ascended, KL left out; near 0 on-policy, where its gradient counts
    entropy        of the policy where tokens were drawn, in nats
    clipped        tokens whose gradient the clip has cut off
    kl             to the reference, estimated
    difference     absolute, of a token's log-probability in the trainer and in the engine at sampling
    """

    tokens: int = 0
    surrogate: float = 0.0
    entropy: float = 0.0
    clipped: int = 0
    kl: float = 0.0
    difference: float = 0.0
    largest_difference: float = 0.0
    agreement: Agreement = field(default_factory=Agreement)

    def mean(self, total: float) -> float:
        """Of a sum over tokens; 0 where there were none."""
        return total / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class PolicyUpdate:
    """How answers become a gradient.

    model       the policy; gradients are added to its parameters'
    reference   that the KL term holds it to; None where `kl_weight` is 0
    most_tokens of an answer
    """

    model: SparseModel
    objective: Objective
    most_tokens: int
    reference: SparseModel | None = None
    kl_weight: float = 0.0
    mtp_weight: float = 0.0
    replays: bool = False

    def accumulate(
        self, scored: Sequence[Scored], batches: Sequence[PolicyBatch], measures: Measures
    ) -> None:
        """Add the gradient of minus the objective over these answers, and of the MTP module's loss.

        scored   the answers of the update
        batches  the same, packed
        """
        device = self.model.lm_head.weight.device
        lengths = torch.tensor([len(one.answer.ids) for one in scored])
        weights = self.objective.weight(lengths, self.most_tokens).float().to(device)
        advantages = torch.tensor([one.advantage for one in scored], dtype=torch.float32, device=device)
        lengths = lengths.to(device)
        for packed in batches:
            self._batch(packed.to(device), advantages, lengths, weights, measures)

    def _batch(
        self, packed: PolicyBatch, advantages: Tensor, lengths: Tensor, weights: Tensor, measures: Measures
    ) -> None:
        batch, model = packed.batch, self.model
        with watching_routes(model, packed.routes, measures.agreement, replays=self.replays):
            output = model(batch.tokens, batch.documents, batch.positions, with_mtp=False)
        is_answer = batch.labels != IGNORE
        log_probabilities = model.lm_head(output.hidden[is_answer]).float().log_softmax(-1)
        logprobs = log_probabilities.gather(-1, batch.labels[is_answer][:, None])[:, 0]
        log_ratios = logprobs - packed.behaviour
        gain, is_clipped = surrogate(
            self.objective, log_ratios, packed.sequence, advantages, lengths, weights
        )
        kl = self._kl(packed, logprobs)
        loss = self.kl_weight * (weights[packed.sequence] * kl).sum() - gain
        torch.autograd.backward(loss)
        if self.mtp_weight and model.config.num_nextn_predict_layers:
            self._teach_mtp(packed, output.hidden.detach(), int(lengths.sum()))
        with torch.no_grad():
            measures.tokens += len(logprobs)
            measures.surrogate += gain.item()
            measures.entropy -= float((log_probabilities.exp() * log_probabilities).sum())
            measures.clipped += int(is_clipped.sum())
            measures.kl += float(kl.sum())
            measures.difference += float(log_ratios.abs().sum())
            measures.largest_difference = max(measures.largest_difference, float(log_ratios.abs().max()))

    def _kl(self, packed: PolicyBatch, logprobs: Tensor) -> Tensor:
        """Of each label, with gradient; zeros without a reference."""
        if self.reference is None:
            return torch.zeros_like(logprobs)
        batch = packed.batch
        is_answer = batch.labels != IGNORE
        with torch.no_grad():
            output = self.reference(batch.tokens, batch.documents, batch.positions, with_mtp=False)
            scores = self.reference.lm_head(output.hidden[is_answer]).float().log_softmax(-1)
            reference = scores.gather(-1, batch.labels[is_answer][:, None])[:, 0]
        return k3(logprobs, reference)

    def _teach_mtp(self, packed: PolicyBatch, hidden: Tensor, tokens: int) -> None:
        """Add the gradient of the MTP loss, a mean over the update, to the module's parameters alone.

        hidden  (B, T, D) of the main model, without gradient
        """
        batch, model = packed.batch, self.model
        labels = mtp_labels(batch)
        chosen = labels != IGNORE
        context = model.context(batch.documents, batch.positions)
        further, _ = model.look_further(batch.tokens, hidden, context)
        scores = model.lm_head(further[chosen]).float()
        loss = F.cross_entropy(scores, labels[chosen], reduction="sum") * (self.mtp_weight / max(tokens, 1))
        module = model.model.layers[model.config.num_hidden_layers]
        torch.autograd.backward(loss, inputs=[each for each in module.parameters() if each.requires_grad])
