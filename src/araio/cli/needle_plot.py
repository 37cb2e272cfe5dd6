"""`draw_needles`: the share of needles found, by length from left to right and by depth from above."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from araio.cli.picture import picture
from araio.cli.printable import printable
from araio.eval.needle import NeedleReport

__all__ = ["draw_needles"]

WIDTH_IN, HEIGHT_IN = 9, 5.5
DARK_BELOW, DARK_ABOVE = 0.2, 0.8
"""Shares whose colours are so dark that their number is written in white."""


def draw_needles(report: NeedleReport, path: Path) -> None:
    """A heat map with the count in each cell, and each length's share and 95 % interval above it.

    Raises RequestError as `picture` does.
    """
    lengths = report.to_dict()["lengths"]
    shares = np.array([[cell["accuracy"] for cell in entry["depths"]] for entry in lengths]).T
    with picture(path, WIDTH_IN, HEIGHT_IN) as figure:
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
        for column, entry in enumerate(lengths):
            for row, cell in enumerate(entry["depths"]):
                share, n = cell["accuracy"], cell["n"]
                is_dark = not DARK_BELOW <= share <= DARK_ABOVE
                axes.text(
                    column,
                    row,
                    f"{round(share * n)}/{n}",
                    ha="center",
                    va="center",
                    fontsize="x-small",
                    color="white" if is_dark else "black",
                )
        axes.set_xticks(range(len(lengths)), [column_text(entry) for entry in lengths], fontsize="small")
        axes.xaxis.tick_top()
        depths = [f"{cell['depth']:.0%}" for cell in lengths[0]["depths"]]
        axes.set_yticks(range(len(depths)), depths)
        axes.set_ylabel("depth of the needle")
        axes.set_xlabel("tokens in the context")
        axes.spines[:].set_visible(False)
        figure.colorbar(image, label="found", shrink=0.8)
        kind = report.settings.haystack
        title = f"{Path(report.model).name}: needles found in a haystack of {kind}"
        figure.suptitle(printable(title), weight="bold")


def column_text(entry: dict[str, Any]) -> str:
    length, (low, high) = entry["length"], entry["ci95"]
    name = f"{length // 1024}k" if length % 1024 == 0 else f"{length:,}"
    return f"{name}\n{entry['accuracy']:.0%}\n{low:.0%} to {high:.0%}"
