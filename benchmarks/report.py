"""What every benchmark does with its options and its report, and its rows as a table of text."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from araio.errors import AraioError

__all__ = ["run", "table"]

Report: TypeAlias = dict[str, Any]

BLANK = ""


def run(
    parser: argparse.ArgumentParser,
    compare: Callable[[argparse.Namespace], Report],
    text: Callable[[Report], str],
) -> Report:
    """Measure what the command line asks for, and print the report as text, or as JSON and nothing else."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()
    try:
        report = compare(arguments)
    except AraioError as error:
        parser.error(str(error))
    print(json.dumps(report, indent=2) if arguments.json else text(report))
    return report


def table(rows: Iterable[dict[str, Any]]) -> str:
    """One line a row: araio's speed, its peer's, their ratio with its range, and the share of the limit."""
    lines = [f"{BLANK:<34}{'araio':>12}{'peer':>12}{'ratio':>8}{'range':>16}{'of the limit':>14}"]
    for row in rows:
        value, peer = (_speed(row[name], row["unit"]) for name in ("value", "peer"))
        ratio = BLANK if row["ratio"] is None else f"{row['ratio']:.2f}x"
        spread = BLANK if row["ratio_low"] is None else f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
        share = BLANK if row["fraction_of_limit"] is None else f"{row['fraction_of_limit']:.0%}"
        lines.append(f"{row['name']:<34}{value:>12}{peer:>12}{ratio:>8}{spread:>16}{share:>14}".rstrip())
    return "\n".join(lines)


def _speed(value: float | None, unit: str) -> str:
    if value is None:
        return BLANK
    if unit == "bytes":
        return f"{value / 1e9:.3f} GB"
    return f"{value / 1e9:.1f} GB/s" if unit == "bytes/s" else f"{value:.2f}"
