"""`araio receipts`: what the answers of `araio run` took, by day, model or profile."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from araio.cli.printable import printable
from araio.costs.receipt_log import GROUPS, ReceiptLog, Total
from araio.costs.receipt_text import money_text, quantity_text
from araio.errors import RequestError
from araio.json_reader import shown

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio receipts",
    "araio receipts --by model --since 7d",
    "araio receipts --since 2026-01-01 --json",
    "araio receipts --plot receipts.png",
)

DAY_S = 86_400

# From here on a column would grow: tokens have a prefix, seconds no decimals.
LONG_COUNT, LONG_S = 100_000, 100


def command(
    by: Annotated[str, typer.Option(metavar="WHAT", help="What to sum by: day, model or profile.")] = "day",
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From a date on, 2026-01-31, or the last days, 7d.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw tokens, joules and grams into a PNG, PDF or SVG."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Sum up the receipts of `araio run`: tokens, work, joules, grams and money.

    They are kept as numbers alone, in a file of yours; ARAIO_RECEIPTS=off or --no-log keeps none. Joules that
    were measured and joules that were modelled are never added.
    """
    if by not in GROUPS:
        raise RequestError(f"--by is {shown(by)}; expected one of {', '.join(GROUPS)}")
    log = ReceiptLog()
    totals = log.totals(by, _since(since))
    if plot is not None and totals:
        from araio.cli.receipts_plot import draw_receipts

        draw_receipts(totals, plot)
    if as_json:
        document = {"log": str(log.path), "by": by, "totals": [asdict(total) for total in totals]}
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    if not totals:
        sys.stdout.write(f"no receipts{' since then' if since else ''} in {log.path}\n")
        return
    Console().print(_table(by, totals))


def _since(text: str | None) -> float:
    """Seconds since 1970."""
    if text is None:
        return 0.0
    if re.fullmatch(r"\d{1,5}d", text):
        return time.time() - int(text[:-1]) * DAY_S
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise RequestError(
            f"--since is {shown(text)}; expected a date as in 2026-01-31, or days as in 7d"
        ) from None


def _table(by: str, totals: Sequence[Total]) -> Table:
    """As wide as 80 columns at most, but for long names, which are folded, and for several currencies."""
    currencies = sorted({currency for total in totals for currency in total.money})
    table = Table(box=None, pad_edge=False)
    table.add_column(by, no_wrap=by == "day", overflow="fold")
    for heading in ("asked", "tokens", "FLOP", "bytes", "time", "energy", "CO2e", *currencies):
        table.add_column(heading, justify="right", no_wrap=True)
    for total in totals:
        money = [money_text(total.money[key]) if key in total.money else "" for key in currencies]
        table.add_row(Text(printable(total.name or "none")), *_cells(total), *money)
    return table


def _cells(total: Total) -> tuple[str, ...]:
    tokens = total.prompt_tokens + total.reasoning_tokens + total.answer_tokens
    return (
        f"{total.answers:,}",
        f"{tokens:,}" if tokens < LONG_COUNT else quantity_text(tokens, "").strip(),
        quantity_text(total.flops, "").strip(),
        quantity_text(total.memory_bytes + total.disk_bytes, "").strip(),
        f"{total.seconds:.1f} s" if total.seconds < LONG_S else f"{total.seconds:,.0f} s",
        _apart(total.measured_joules, total.modelled_joules, "J"),
        _apart(total.measured_grams, total.modelled_grams, "g"),
    )


def _apart(measured: float, modelled: float, unit: str) -> str:
    """What was measured and what was modelled, each on a line of its own."""
    lines = [quantity_text(measured, unit)] if measured else []
    return "\n".join([*lines, f"~{quantity_text(modelled, unit)}"] if modelled else lines)
