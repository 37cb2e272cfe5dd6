"""Optimizers and their parameter groups: AdamW for everything, or Muon for the matrices.

Muon (Jordan 2024) replaces a matrix's momentum by the nearest orthogonal matrix, so all directions of a layer
learn at one speed. The update is scaled to AdamW's usual size (Moonlight, arXiv 2502.16982, equation 4), so
both share a learning rate and weight decay. Embedding, output matrix, router and norms stay with AdamW.
`torch.optim.Muon` takes single matrices; here the experts of a layer are one tensor, so this one is batched.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

__all__ = ["Muon", "build_optimizers", "orthogonalise"]

ADAMW_NAMES = ("embed_tokens", "lm_head", "norm", "mlp.gate.weight")


def build_optimizers(
    model: nn.Module, name: str, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> list[Optimizer]:
    """`[AdamW]`, or `[Muon, AdamW]` for name "muon"; vectors and embeddings never decay.

    What needs no gradient is in neither.
    """
    matrices, decayed, plain = [], [], []
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        by_adamw = any(part in parameter_name for part in ADAMW_NAMES)
        if name == "muon" and parameter.ndim > 1 and not by_adamw:
            matrices.append(parameter)
        elif parameter.ndim > 1 and "embed_tokens" not in parameter_name:
            decayed.append(parameter)
        else:
            plain.append(parameter)
    adamw = AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=betas,
        # The usual 1e-8 would damp what is rarely seen: gradients of rare tokens and experts are that small.
        eps=1e-10,
        fused=True,
    )
    return [Muon(matrices, learning_rate, weight_decay), adamw] if matrices else [adamw]


class Muon(Optimizer):
    """Momentum, orthogonalised; for tensors whose last two dimensions are matrices.

    1. `m = momentum * m + g`
    2. `u = orthogonalise(g + momentum * m)`  (Nesterov)
    3. `w = w - lr * (weight_decay * w + 0.2 * sqrt(max(rows, columns)) * u)`
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum: Tensor = state["momentum"]
                momentum.mul_(group["momentum"]).add_(parameter.grad)
                update = orthogonalise(parameter.grad.add(momentum, alpha=group["momentum"]))
                size = 0.2 * max(parameter.shape[-2:]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.to(parameter.dtype), alpha=-group["lr"] * size)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix of each (..., rows, columns), by Newton-Schulz in bfloat16.

    The quintic's coefficients (Jordan 2024) push every singular value into about 0.7 to 1.2, which serves as
    well as exactly 1 and needs five steps only.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT.contiguous() if is_tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    nearest: Tensor = x.mT if is_tall else x
    return nearest
