"""`draw_plan`: what a token takes on each machine, over batch, context and number of experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from araio.cli.picture import picture
from araio.cli.plan_table import Comparison
from araio.config import ModelConfig
from araio.costs.plan import Prediction, predict
from araio.costs.storage import Storage
from araio.errors import CostError

__all__ = ["draw_plan"]

WIDTH_IN, HEIGHT_IN = 12, 7
STEPS = 9

Points: TypeAlias = list[tuple[int, Prediction]]

QUANTITIES: dict[str, Callable[[Prediction], float]] = {
    "milliseconds a token, of all together": lambda found: 1e3 / found.tokens_per_s,
    "joules a token, modelled": lambda found: found.joules[1],
}


def draw_plan(config: ModelConfig, found: Sequence[Comparison], storage: Storage, path: Path) -> None:
    """Time and energy of a token over batch, context and the number of experts at the same active size.

    Where a model does not fit, its line ends. Raises RequestError without matplotlib, and for a format that
    it does not have.
    """
    curves = [_curves(config, one, storage) for one in found]
    with picture(path, WIDTH_IN, HEIGHT_IN) as figure:
        axes = figure.subplots(len(QUANTITIES), len(curves[0]), sharex="col", sharey="row", squeeze=False)
        for row, (label, quantity) in zip(axes, QUANTITIES.items(), strict=True):
            for one, of_machine in zip(found, curves, strict=True):
                for axis, points in zip(row, of_machine.values(), strict=True):
                    sizes, values = [size for size, _ in points], [quantity(model) for _, model in points]
                    axis.plot(sizes, values, marker=".", label=one.model.site.name)
                    axis.set(xscale="log", yscale="log")
                    axis.grid(visible=True, alpha=0.3)
            row[0].set_ylabel(label)
        for axis, name in zip(axes[-1], curves[0], strict=True):
            axis.set_xlabel(name)
        axes[0][0].legend()


def _curves(config: ModelConfig, one: Comparison, storage: Storage) -> dict[str, Points]:
    """Predictions by what changes, everything else being as it was asked for."""
    site, load = one.model.site, one.model.load
    # A hit rate belongs to one budget and one number of experts, so the share that fits stands in for it.

    def points(sizes: Sequence[int], predicted: Callable[[int], Prediction]) -> Points:
        found = []
        for size in sizes:
            try:
                found.append((size, predicted(size)))
            except CostError:
                break
        return found

    batches = [2**step for step in range(STEPS)]
    contexts = [
        size for size in (1024 * 2**step for step in range(STEPS)) if size <= config.max_position_embeddings
    ]
    curves = {
        "batch": points(batches, lambda n: predict(config, site, replace(load, batch=n), storage)),
        "context": points(contexts, lambda n: predict(config, site, replace(load, context=n), storage)),
    }
    if config.moe_layers:
        experts = [config.num_experts_per_tok * 2**step for step in range(STEPS - 2)]
        curves["routed experts, as many chosen"] = points(
            experts, lambda n: predict(_with_experts(config, n), site, load, storage)
        )
    return curves


def _with_experts(config: ModelConfig, routed: int) -> ModelConfig:
    return replace(config, n_routed_experts=routed, n_group=1, topk_group=1)
