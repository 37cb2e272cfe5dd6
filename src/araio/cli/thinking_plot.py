"""Accuracy against what is spent on thinking, as a picture: by budgets of tokens, and by votes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from araio.cli.picture import picture
from araio.eval.thinking import Point, Sweep
from araio.eval.wilson import wilson_interval

__all__ = ["draw_sweep"]

WIDTH_IN, HEIGHT_IN = 5.5, 4.2


def draw_sweep(found: Sweep, path: Path) -> None:
    """A panel for budgets, one for votes, or both; raises RequestError as `picture` does."""
    panels = [name for name in ("budgets", "votes") if getattr(found, name)]
    with picture(path, WIDTH_IN * len(panels), HEIGHT_IN) as figure:
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for place, name in zip(axes, panels, strict=True):
            _draw(place, getattr(found, name), by_votes=name == "votes")
        figure.suptitle(f"{found.model}, 95 % intervals")


def _draw(axes: Any, points: Sequence[Point], *, by_votes: bool) -> None:
    for task in dict.fromkeys(point.task for point in points):
        mine = [point for point in points if point.task == task]
        across = [point.votes if by_votes else point.tokens for point in mine]
        shares = [point.correct / point.n for point in mine]
        ends = [wilson_interval(point.correct, point.n) for point in mine]
        errors = [
            [share - low for share, (low, _) in zip(shares, ends, strict=True)],
            [high - share for share, (_, high) in zip(shares, ends, strict=True)],
        ]
        width = 2.5 if task == "all" else 1.2
        axes.errorbar(across, shares, yerr=errors, marker="o", capsize=3, linewidth=width, label=task)
    axes.set_xlabel("votes" if by_votes else "tokens of thinking, mean")
    axes.set_ylabel("right")
    axes.set_ylim(0, 1.02)
    if by_votes:
        axes.set_xscale("log", base=2)
        ticks = sorted({point.votes for point in points})
        axes.set_xticks(ticks, [str(count) for count in ticks])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
