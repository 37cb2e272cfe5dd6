"""Figures of a trace for notebooks and papers: every function draws on matplotlib Axes and returns them.

    from araio.lens import plots
    from araio.traces import Trace
    axes = plots.heat_map(Trace.open("math.moetrace"), domain="mathematics")

Each takes a `Summary`, or a `Trace` that is then summarised, and Axes to draw on, or makes its own. They need
matplotlib, which comes with `araio[report]`. The report (`lens/report`) shows the same numbers and more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from araio.errors import TraceError
from araio.lens.routes import Float64Array
from araio.lens.summary import Summary, summarise
from araio.traces.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cache_curves", "co_activation", "heat_map", "load_curve", "main_figures", "specialisation"]

Source: TypeAlias = Summary | Trace
Figure: TypeAlias = Callable[[Source, "Axes | None"], "Axes"]

ENDS = 4
"""Where the scale of loads ends: a quarter and four times of the even share."""
LEAST_RATIO = 1e-3


def heat_map(source: Source, axes: Axes | None = None, *, domain: str | None = None) -> Axes:
    """Load of every expert in every layer, over the even share, on a scale with its middle at 1.

    domain  one of the trace's; None for all of them together

    Raises:
        TraceError: the trace has no such domain.
        ImportError: matplotlib is not installed; so do all functions here.
    """
    found, axes = _summary(source), _axes(axes)
    load = found.load.relative if domain is None else found.load_by_domain.relative[_index(found, domain)]
    shown = np.log2(np.maximum(load, LEAST_RATIO)) / np.log2(ENDS)
    image = axes.imshow(
        shown, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest", rasterized=True
    )
    groups = found.header.n_group
    for border in range(1, groups):
        axes.axvline(border * load.shape[1] / groups - 0.5, color="0.3", linewidth=0.7)
    axes.set(xlabel="expert", ylabel="layer", title=domain or "all domains")
    _name_layers(axes, found)
    bar = axes.figure.colorbar(image, ax=axes, ticks=[-1, -0.5, 0, 0.5, 1], label="load / even share")
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4"])
    return axes


def load_curve(source: Source, axes: Axes | None = None) -> Axes:
    """How many experts of the same use would spread a layer's load alike, by layer and domain."""
    found, axes = _summary(source), _axes(axes)
    if len(found.domains) > 1:
        for domain, values in zip(found.domains, found.load_by_domain.effective_experts, strict=True):
            axes.plot(found.layers, values, marker=".", label=domain.name)
    axes.plot(found.layers, found.load.effective_experts, marker=".", color="0.1", label="all")
    experts = found.header.n_routed_experts
    axes.axhline(experts, color="0.5", linestyle="--", label=f"all {experts}")
    axes.set(xlabel="layer", ylabel="experts at work", ylim=(0, 1.05 * experts))
    _count_layers(axes)
    axes.legend()
    return axes


def specialisation(source: Source, axes: Axes | None = None) -> Axes:
    """What an expert tells of the domain, by layer, over what shuffled sequences show.

    Raises:
        TraceError: the trace has one domain.
    """
    found, axes = _summary(source), _axes(axes)
    if not _has_several_domains(found):
        raise TraceError(
            "the trace has one domain; specialisation compares two or more: give another trace too"
        )
    axes.plot(found.layers, found.information.bits, marker=".", label="measured")
    axes.fill_between(
        found.layers, 0, found.information.null_high, color="0.75", label="sequences shuffled, 95 % below"
    )
    axes.set(xlabel="layer", ylabel="bits that an expert tells of the domain")
    _count_layers(axes)
    axes.set_ylim(bottom=0)
    axes.legend()
    return axes


def cache_curves(source: Source, axes: Axes | None = None) -> Axes:
    """Hit rates of caches of every size by rule, beside the same tokens in random order; mean of layers."""
    found, axes = _summary(source), _axes(axes)
    caching = found.caching
    for rule, hits in caching.hits.items():
        axes.plot(caching.capacities, hits.mean(0), label=rule, linestyle="--" if rule == "optimal" else "-")
    axes.plot(
        caching.capacities, caching.shuffled["lru"].mean(0), ":", color="0.4", label="lru, tokens shuffled"
    )
    axes.set(xlabel="experts kept in each layer", ylabel="hit rate", ylim=(0, 1.02))
    axes.legend()
    return axes


def co_activation(source: Source, axes: Axes | None = None, *, layer: int | None = None) -> Axes:
    """Lift of every two experts of a layer over what independent choices of their loads would give.

    layer  its number in the model; None for the first

    Raises:
        TraceError: the trace has no such layer.
    """
    found, axes = _summary(source), _axes(axes)
    number = found.layers[0] if layer is None else layer
    if number not in found.layers:
        raise TraceError(
            f"the trace has no layer {number}; expected one of {', '.join(map(str, found.layers))}"
        )
    lift: Float64Array = found.coactivation.lift[found.layers.index(number)]
    shown = np.log2(np.maximum(lift, LEAST_RATIO)) / np.log2(ENDS)  # what is unknown stays NaN, and white
    image = axes.imshow(shown, cmap="PuOr_r", vmin=-1, vmax=1, interpolation="nearest", rasterized=True)
    axes.set(xlabel="expert", ylabel="expert", title=f"layer {number}")
    bar = axes.figure.colorbar(image, ax=axes, ticks=[-1, -0.5, 0, 0.5, 1], label="lift")
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4"])
    return axes


def main_figures(summary: Summary) -> tuple[Figure, ...]:
    """The four that `araio lens --plot` draws."""
    third = specialisation if _has_several_domains(summary) else co_activation
    return heat_map, load_curve, third, cache_curves


def _summary(source: Source) -> Summary:
    return source if isinstance(source, Summary) else summarise(source)


def _count_layers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _has_several_domains(found: Summary) -> bool:
    return sum(domain.tokens > 0 for domain in found.domains) > 1


def _axes(axes: Axes | None) -> Axes:
    if axes is not None:
        return axes
    from matplotlib import figure

    return figure.Figure(layout="constrained").subplots()


def _index(found: Summary, domain: str) -> int:
    names = [one.name for one in found.domains]
    if domain not in names:
        raise TraceError(f"the trace has no domain {domain!r}; expected one of {', '.join(names)}")
    return names.index(domain)


def _name_layers(axes: Axes, found: Summary) -> None:
    every = -(-len(found.layers) // 12)
    places = range(0, len(found.layers), every)
    axes.set_yticks(list(places), [str(found.layers[place]) for place in places])
