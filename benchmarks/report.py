"""The rows of a benchmark as a table of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["table"]

BLANK = ""


def table(rows: Iterable[dict[str, Any]]) -> str:
    """One line a row: araio's speed, its peer's, their ratio with its range, and the share of the limit."""
    lines = [f"{BLANK:<34}{'araio':>12}{'peer':>9}{'ratio':>8}{'range':>16}{'of the limit':>14}"]
    for row in rows:
        value = f"{row['value'] / 1e9:.1f} GB/s" if row["unit"] == "bytes/s" else f"{row['value']:.2f}"
        peer = BLANK if row["peer"] is None else f"{row['peer']:.2f}"
        ratio = BLANK if row["ratio"] is None else f"{row['ratio']:.2f}x"
        spread = BLANK if row["ratio"] is None else f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
        share = BLANK if row["fraction_of_limit"] is None else f"{row['fraction_of_limit']:.0%}"
        lines.append(f"{row['name']:<34}{value:>12}{peer:>9}{ratio:>8}{spread:>16}{share:>14}".rstrip())
    return "\n".join(lines)
