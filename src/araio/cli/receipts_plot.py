"""`draw_receipts`: what answers took, as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from araio.cli.picture import picture
from araio.costs.receipt_log import Total

__all__ = ["draw_receipts"]

WIDTH_IN, ROW_IN = 8, 2


def draw_receipts(totals: Sequence[Total], path: Path) -> None:
    """Bars of tokens, joules and grams, one for each total; raises RequestError as `picture` does."""
    names = [total.name or "none" for total in totals]
    places = range(len(totals))
    generated = [total.reasoning_tokens + total.answer_tokens for total in totals]
    prompts = [total.prompt_tokens for total in totals]
    modelled = [total.modelled_joules for total in totals]
    below = [total.modelled_joules - total.modelled_low for total in totals]
    above = [total.modelled_high - total.modelled_joules for total in totals]
    grams = [total.modelled_grams for total in totals]
    with picture(path, WIDTH_IN, 3 * ROW_IN) as figure:
        tokens, energy, carbon = figure.subplots(3, sharex=True)
        tokens.bar(places, prompts, label="prompt")
        tokens.bar(places, generated, bottom=prompts, label="generated")
        tokens.set_ylabel("tokens")
        tokens.legend()
        _draw_pairs(energy, "joules", [total.measured_joules for total in totals], modelled, (below, above))
        _draw_pairs(carbon, "grams of CO2e", [total.measured_grams for total in totals], grams)
        carbon.set_xticks(list(places), names, rotation=30, ha="right")


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
