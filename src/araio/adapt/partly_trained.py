"""`train_only`: a model of `train/` of which some experts learn, and nothing else does.

A layer's experts are stacked in one tensor a projection, which has a gradient as a whole or not at all. So
the chosen ones are taken out into a smaller stack of their own: gradients and moments are of its size, and
nothing of the others is copied in a step. Read `tune.py` for the training, `train/model.py` for the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from araio.formats.layout import EXPERT_MATRICES
from araio.train.model import GroupedExperts, MoE, SparseModel, grouped_linear

__all__ = ["PartlyTrained", "train_only", "tuned_tensors"]


class PartlyTrained(GroupedExperts):
    """Experts of which those of `ids` learn; the same function of its input as those that it was made of.

    `tuned` and `frozen` have the matrices of both kinds, (n, ...) and (E - n, ...), under the usual names.
    """

    def __init__(self, whole: GroupedExperts, ids: Sequence[int]) -> None:
        nn.Module.__init__(self)  # the stack of all experts must not be made once more
        E = self.n_experts = whole.n_experts
        self.ids = tuple(ids)
        others = [expert for expert in range(E) if expert not in set(ids)]
        # Places of experts when the tuned ones come first.
        self.place: Tensor
        self.register_buffer("place", torch.tensor([*ids, *others]).argsort(), persistent=False)
        self.tuned, self.frozen = nn.ParameterDict(), nn.ParameterDict()
        for matrix in EXPERT_MATRICES:
            stack = getattr(whole, matrix).detach()
            self.tuned[matrix] = nn.Parameter(stack[list(ids)])
            self.frozen[matrix] = nn.Parameter(stack[others], requires_grad=False)

    def forward(self, x_TD: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
        """As `GroupedExperts.forward`."""
        return super().forward(x_TD, weights_TK, self.place[ids_TK])

    def project(self, matrix: str, x: Tensor, ends: Tensor) -> Tensor:
        """The rows of tuned experts, which lie in front, and then the others'."""
        n = len(self.ids)
        cut = int(ends[n - 1])
        tuned = grouped_linear(x[:cut], self.tuned[matrix], ends[:n])
        if n == self.n_experts:
            return tuned
        return torch.cat((tuned, grouped_linear(x[cut:], self.frozen[matrix], ends[n:] - cut)))


def train_only(model: SparseModel, experts: Mapping[int, Sequence[int]]) -> None:
    """Freeze a model but for these experts, by layer; a layer without any stays as it is."""
    model.requires_grad_(False)
    for layer, ids in experts.items():
        mlp = model.model.layers[layer].mlp
        assert isinstance(mlp, MoE)
        if ids:
            mlp.experts = PartlyTrained(mlp.experts, ids)


def tuned_tensors(model: SparseModel) -> Iterator[tuple[str, Tensor]]:
    """What `train_only` let learn, under the names of a published checkpoint."""
    for name, module in model.named_modules():
        if isinstance(module, PartlyTrained):
            for place, expert in enumerate(module.ids):
                for matrix in EXPERT_MATRICES:
                    yield f"{name}.{expert}.{matrix}.weight", module.tuned[matrix][place].detach()
