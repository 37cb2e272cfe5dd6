"""`draw_stream`: which tokens missed experts, layer by layer, and below it what that cost, over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from araio.cli.numbers import memory_text, speed_text
from araio.cli.picture import picture
from araio.cli.printable import printable
from araio.eval.streaming import StreamReport

__all__ = ["draw_stream"]

WIDTH_IN, HEIGHT_IN = 11, 8
MEASURED, LIMIT = "#c2410c", "#0f766e"
MEAN_TOKENS = 8

Floats = NDArray[np.float64]


def draw_stream(report: StreamReport, path: Path) -> None:
    """A heat map of misses, token by layer; below it the hits, bytes and milliseconds of each token.

    Faint lines are single tokens, strong ones means of the last eight. Raises RequestError as `picture` does.
    """
    with picture(path, WIDTH_IN, HEIGHT_IN) as figure:
        misses, hits, reads, times = figure.subplots(4, sharex=True, height_ratios=[4, 1.4, 1.4, 1.4])
        misses.set_title(_title(report), loc="left", weight="bold", pad=26)
        misses.text(0, 1.025, _subtitle(report), transform=misses.transAxes)
        _draw_misses(figure, misses, report)
        _draw_hits(hits, report)
        _draw_reads(reads, report)
        _draw_times(times, report)
        for axes in (hits, reads, times):
            axes.grid(visible=True, axis="y", alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), frameon=False, fontsize="small")
        times.set_xlabel("decoded token")
        times.set_xlim(0.5, len(report.tokens) + 0.5)
        figure.align_ylabels()


def _title(report: StreamReport) -> str:
    memory, speed = memory_text(report.budget.ram), speed_text(report.tok_per_s)
    return printable(f"{Path(report.model).name} in {memory} of memory: {speed} tokens/s")


def _subtitle(report: StreamReport) -> str:
    share = report.held / report.experts
    busy, best = report.busy_bytes_per_s / 1e9, report.ceiling_bytes_per_s / 1e9
    return (
        f"{share:.0%} of {report.experts:,} experts fit; the disk gives {busy:.2f} GB/s while it is read, of "
        f"{best:.2f} at best; {report.waited_share:.0%} of the time is spent waiting for it"
    )


def _draw_misses(figure: Any, axes: Any, report: StreamReport) -> None:
    """Layers from the first one down, as a token passes them."""
    missed = np.array([token.missed for token in report.tokens]).T
    chosen = report.counts.uses // missed.size
    layers, count = report.layers, len(report.tokens)
    extent = (0.5, count + 0.5, layers[-1] + 0.5, layers[0] - 0.5)
    image = axes.imshow(
        missed, cmap="OrRd", vmin=0, vmax=chosen, aspect="auto", interpolation="nearest", extent=extent
    )
    axes.set_ylabel("layer")
    bar = figure.colorbar(image, cax=axes.inset_axes((1.015, 0, 0.015, 1)))
    bar.set_label(f"experts missed, of {chosen}")
    bar.set_ticks(range(chosen + 1))


def _draw_hits(axes: Any, report: StreamReport) -> None:
    counts = [token.counts for token in report.tokens]
    uses = np.array([count.uses for count in counts])
    found = np.array([count.pinned + count.cached for count in counts])
    optimum = np.array([sum(token.optimum) for token in report.tokens])
    _draw_line(axes, 100 * (1 - optimum / uses), LIMIT, "optimum")
    _draw_line(axes, 100 * found / uses, MEASURED, "found in memory")
    ahead = 100 * np.array([count.hits for count in counts]) / uses
    axes.plot(_places(ahead), _mean(ahead), color=MEASURED, linestyle=":", label="or read ahead")
    axes.set_ylabel("hits, %")
    axes.set_ylim(top=102)


def _draw_reads(axes: Any, report: StreamReport) -> None:
    optimum = np.array([sum(token.optimum) for token in report.tokens])
    _draw_line(axes, optimum * report.record_bytes / 1e6, LIMIT, "optimum")
    read = np.array([token.counts.read_bytes for token in report.tokens])
    _draw_line(axes, read / 1e6, MEASURED, "read")
    axes.set_ylabel("MB a token")
    axes.set_ylim(bottom=0)


def _draw_times(axes: Any, report: StreamReport) -> None:
    seconds = np.array([token.seconds for token in report.tokens])
    waited = np.array([token.counts.wait_s for token in report.tokens])
    name, alone_s = "computing alone", report.compute_s
    if report.in_memory_s is not None:
        name, alone_s = "with all in memory", report.in_memory_s
    axes.axhline(1e3 * alone_s / len(report.tokens), color=LIMIT, linestyle="--", label=name)
    _draw_line(axes, 1e3 * seconds, MEASURED, "taken")
    axes.fill_between(
        _places(waited), _mean(1e3 * waited), color=MEASURED, alpha=0.2, linewidth=0, label="of it waiting"
    )
    axes.set_ylabel("ms a token")
    axes.set_ylim(bottom=0)


def _draw_line(axes: Any, values: Floats, color: str, label: str) -> None:
    """Each token's value, and the mean of the last ones."""
    axes.plot(_places(values), values, color=color, alpha=0.25, linewidth=0.8)
    axes.plot(_places(values), _mean(values), color=color, label=label)


def _places(values: Floats) -> Floats:
    return np.arange(1, len(values) + 1, dtype=np.float64)


def _mean(values: Floats) -> Floats:
    """Of each value and the ones before it, eight at most."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(sums))
    begins = np.maximum(0, ends - MEAN_TOKENS)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins))
