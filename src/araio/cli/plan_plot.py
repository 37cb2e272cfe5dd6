"""`draw_plan`: what a token takes on each machine, over batch, context and number of experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from araio.cli.picture import picture
from araio.cli.plan_table import Comparison
from araio.config import ModelConfig
from araio.costs.plan import predict
from araio.costs.storage import Storage
from araio.errors import CostError

__all__ = ["draw_plan"]

WIDTH_IN, HEIGHT_IN = 12, 4
STEPS = 9


def draw_plan(config: ModelConfig, found: Sequence[Comparison], storage: Storage, path: Path) -> None:
    """Seconds a token over batch, over context and over the number of experts at the same active size.

    Where a model does not fit, its line ends. Raises RequestError without matplotlib, and for a format that
    it does not have.
    """
    curves = [_curves(config, one, storage) for one in found]
    with picture(path, WIDTH_IN, HEIGHT_IN) as figure:
        (axes,) = figure.subplots(1, len(curves[0]), sharey=True, squeeze=False)
        for one, of_machine in zip(found, curves, strict=True):
            for axis, (name, points) in zip(axes, of_machine.items(), strict=True):
                axis.plot(
                    [x for x, _ in points], [y for _, y in points], marker=".", label=one.model.site.name
                )
                axis.set(xscale="log", yscale="log", xlabel=name)
                axis.grid(visible=True, alpha=0.3)
        axes[0].set_ylabel("milliseconds a token, all sequences together")
        axes[0].legend()


def _curves(config: ModelConfig, one: Comparison, storage: Storage) -> dict[str, list[tuple[int, float]]]:
    """Points by what changes, everything else being as it was asked for."""
    site, load = one.model.site, one.model.load
    # A hit rate belongs to one budget and one number of experts, so the share that fits stands in for it.

    def points(sizes: Sequence[int], seconds: Callable[[int], float]) -> list[tuple[int, float]]:
        found = []
        for size in sizes:
            try:
                found.append((size, 1e3 * seconds(size)))
            except CostError:
                break
        return found

    batches = [2**step for step in range(STEPS)]
    contexts = [
        size for size in (1024 * 2**step for step in range(STEPS)) if size <= config.max_position_embeddings
    ]
    chosen = config.num_experts_per_tok
    curves = {
        "batch": points(
            batches, lambda n: 1 / predict(config, site, replace(load, batch=n), storage).tokens_per_s
        ),
        "context": points(
            contexts, lambda n: 1 / predict(config, site, replace(load, context=n), storage).tokens_per_s
        ),
    }
    if config.moe_layers:
        experts = [chosen * 2**step for step in range(STEPS - 2)]
        curves["routed experts, as many chosen"] = points(
            experts, lambda n: 1 / predict(_with_experts(config, n), site, load, storage).tokens_per_s
        )
    return curves


def _with_experts(config: ModelConfig, routed: int) -> ModelConfig:
    return replace(config, n_routed_experts=routed, n_group=1, topk_group=1)
