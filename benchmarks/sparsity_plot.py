"""The rows of `sparsity.py` as small pictures: quantities down, batches across, experts along.

Both axes are logarithmic, so that what grows in proportion is a straight slope and what is flat stays flat.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "araio"  # the same rows give the same file
from matplotlib import pyplot as plt  # noqa: E402

__all__ = ["draw"]

QUANTITIES = (
    ("seconds", 1e3, "ms per token"),
    ("bytes", 1e-6, "MB read per token"),
    ("joules", 1, "J per token"),
)
COLORS = {"sparse": "#e8590c", "dense": "#868e96"}
LABELS = {"sparse": "8 experts a token", "dense": "all experts, the dense twin"}


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the picture, in the format of the path's ending."""
    rows = report["rows"]
    batches = sorted({row["batch"] for row in rows})
    experts = sorted({row["experts"] for row in rows})
    figure, axes = plt.subplots(
        len(QUANTITIES), len(batches), sharex=True, sharey="row", squeeze=False, figsize=(10, 7)
    )
    for line, (quantity, factor, label) in zip(axes, QUANTITIES, strict=True):
        for axis, batch in zip(line, batches, strict=True):
            for mode, color in COLORS.items():
                of_mode = {
                    row["experts"]: row[quantity] * factor
                    for row in rows
                    if (row["mode"], row["batch"]) == (mode, batch)
                }
                values = [of_mode[count] for count in experts]
                axis.plot(experts, values, color=color, marker="o", markersize=4, label=LABELS[mode])
            axis.set(xscale="log", yscale="log", xticks=experts, xticklabels=experts)
            axis.minorticks_off()
            axis.grid(alpha=0.25)
        line[0].set_ylabel(label)
    for axis, batch in zip(axes[0], batches, strict=True):
        axis.set_title("one user" if batch == 1 else f"{batch} together")
    for axis in axes[-1]:
        axis.set_xlabel("experts in a layer")
    lines, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="upper center", ncols=len(labels), frameon=False)
    figure.text(0.99, 0.005, f"joules by {report['joules_method']}", ha="right", fontsize=8, color="#868e96")
    figure.tight_layout(rect=(0, 0.01, 1, 0.96))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
