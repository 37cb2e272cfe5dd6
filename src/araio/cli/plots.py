"""Pictures of what commands print, with matplotlib, which only they need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from araio.costs.receipt_log import Total
from araio.errors import RequestError

__all__ = ["draw_receipts"]

WIDTH_IN, ROW_IN = 8, 2


def draw_receipts(totals: Sequence[Total], path: Path) -> None:
    """Bars of tokens, joules and grams, one for each total, into a file whose ending says its format.

    Raises RequestError without matplotlib, and for a format that it does not have.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RequestError(
            "--plot needs matplotlib, which is not installed: pip install 'araio[report]', or "
            "scripts/install report in a clone"
        ) from None
    names = [total.name or "none" for total in totals]
    places = range(len(totals))
    figure = Figure(figsize=(WIDTH_IN, 3 * ROW_IN), layout="constrained")
    tokens, energy, carbon = figure.subplots(3, sharex=True)
    generated = [total.reasoning_tokens + total.answer_tokens for total in totals]
    prompts = [total.prompt_tokens for total in totals]
    tokens.bar(places, prompts, label="prompt")
    tokens.bar(places, generated, bottom=prompts, label="generated")
    tokens.set_ylabel("tokens")
    tokens.legend()
    modelled = [total.modelled_joules for total in totals]
    below = [total.modelled_joules - total.modelled_low for total in totals]
    above = [total.modelled_high - total.modelled_joules for total in totals]
    _draw_pairs(energy, "joules", [total.measured_joules for total in totals], modelled, (below, above))
    grams = [total.modelled_grams for total in totals]
    _draw_pairs(carbon, "grams of CO2e", [total.measured_grams for total in totals], grams)
    carbon.set_xticks(list(places), names, rotation=30, ha="right")
    try:
        # The format is stated: a name without an ending would quietly be given one.
        figure.savefig(path, format=path.suffix.removeprefix(".") or path.name)
    except ValueError as error:
        raise RequestError(f"--plot {path}: {error}") from None


def _draw_pairs(
    axes: Any,
    unit: str,
    measured: Sequence[float],
    modelled: Sequence[float],
    range_of_modelled: tuple[Sequence[float], Sequence[float]] | None = None,
) -> None:
    """Side by side, never on top of each other: what is measured and what is modelled do not add up."""
    left, right = ([place + shift for place in range(len(measured))] for shift in (-0.2, 0.2))
    axes.bar(left, measured, 0.4, label="measured")
    axes.bar(right, modelled, 0.4, yerr=range_of_modelled, hatch="//", alpha=0.5, label="modelled")
    axes.set_ylabel(unit)
    axes.legend()
