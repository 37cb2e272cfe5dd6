"""A receipt as text: one line, and the whole with a bar of active against total parameters.

What is modelled never looks like what is measured: it has a `~` in front and its range behind. Read
`receipt.py` for what the numbers mean.
"""

from __future__ import annotations

import math

from araio.costs.receipt import Joules, Receipt

__all__ = ["energy_text", "money_text", "quantity_text", "receipt_line", "receipt_text"]

BAR_WIDTH = 40

_PREFIXES = (
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
)


def quantity_text(value: float, unit: str) -> str:
    """Three digits and a decimal prefix: `3.21 J`, `412 mg`, `1.06 GFLOP`."""
    for size, prefix in _PREFIXES:
        # What would round to 1,000 has the next prefix.
        if abs(value) >= size * 0.9995:
            return f"{_digits(value / size)} {prefix}{unit}"
    return f"0 {unit}" if value == 0 else f"{value:.1g} {unit}"


def _digits(number: float) -> str:
    return f"{number:.0f}" if number >= 99.95 else f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def energy_text(joules: Joules) -> str:
    """`3.21 J` as counted, `3.21 J ± 0.20 J` by a sensor, `~3.2 J (1.6 J to 6.4 J)` by the model."""
    best = quantity_text(joules.best, "J")
    if joules.is_modelled:
        return f"~{best} ({quantity_text(joules.low, 'J')} to {quantity_text(joules.high, 'J')})"
    error = (joules.high - joules.low) / 2
    return f"{best} ± {quantity_text(error, 'J')}" if error else best


def money_text(amount: float) -> str:
    """Two digits, or all before the point and two behind it: `0.000033`, `1,234.50`."""
    decimals = 2 if amount >= 1 or amount == 0 else 1 - math.floor(math.log10(amount))
    return f"{amount:,.{decimals}f}"


def receipt_line(receipt: Receipt) -> str:
    """The receipt in one line; what there is none of is left out."""
    speed, thought = receipt.tok_per_s, receipt.reasoning_tokens
    active, total = receipt.parameters_active, receipt.parameters_total
    parts = [
        f"thought {_tokens(thought)}" if thought else "",
        f"answered {_tokens(receipt.answer_tokens)}",
        f"{receipt.queue_s + receipt.prefill_s + receipt.decode_s:.1f} s",
        f"{speed:.0f} tok/s" if speed is not None else "",
        f"{active / total:.1%} of {_count(total)} weights active per token",
        energy_text(receipt.joules),
        f"{_grams(receipt)} CO2e",
        _money(receipt) or "",
        _streamed_line(receipt),
        f"approximate ({receipt.inexact})" if receipt.inexact else "",
    ]
    return " · ".join(filter(None, parts))


def receipt_text(receipt: Receipt) -> str:
    """Every number with its origin, a line each, below a bar of the parameters."""
    return "\n".join([_bar(receipt), *(f"{label:<12}{value}" for label, value in _rows(receipt) if value)])


def _bar(receipt: Receipt) -> str:
    share = receipt.parameters_active / receipt.parameters_total
    filled = max(1, round(share * BAR_WIDTH))
    bar = "█" * filled + "░" * (BAR_WIDTH - filled)
    total, active = _count(receipt.parameters_total), _count(receipt.parameters_active)
    return f"{bar} {active} of {total} parameters active per token ({share:.1%})"


def _rows(receipt: Receipt) -> list[tuple[str, str | None]]:
    one = receipt
    drafts = f", {one.accepted_draft_tokens} of {one.draft_tokens} drafts right" if one.draft_tokens else ""
    speed = f" ({one.tok_per_s:.0f} tok/s)" if one.tok_per_s is not None else ""
    ratio = f", {one.dense_flops / one.flops:.1f} times as many in a dense model of this size"
    return [
        ("prompt", f"{_tokens(one.prompt_tokens)}, {one.cached_tokens} of them from the cache"),
        ("generated", f"{_tokens(one.reasoning_tokens)} of thinking, {one.answer_tokens} of answer{drafts}"),
        (
            "seconds",
            f"{one.queue_s:.3f} in line, {one.prefill_s:.3f} to the first token, {one.decode_s:.3f} for the "
            f"others{speed}",
        ),
        ("compute", f"{quantity_text(one.flops, 'FLOP')}{ratio}"),
        ("read", f"{quantity_text(one.memory_bytes, 'B')} of memory, {_disk(one)} of disk"),
        ("experts", _experts_row(one)),
        ("energy", _energy_row(one.joules)),
        ("carbon", _carbon_row(one)),
        ("money", _money_row(one)),
        (
            "approximate",
            one.inexact and f"by {one.inexact}; without it the answer may be another",
        ),
    ]


def _disk(receipt: Receipt) -> str:
    return quantity_text(receipt.disk_bytes, "B") if receipt.disk_bytes else "none"


def _streamed_line(receipt: Receipt) -> str:
    """What a token read from disk, how fast, and how many experts were there already."""
    streamed = receipt.streamed
    if streamed is None or streamed.hit_share is None:
        return ""
    speed = streamed.disk_bytes_per_s
    a_token = streamed.disk_bytes / (
        receipt.prompt_tokens - receipt.cached_tokens + receipt.completion_tokens
    )
    at = f" at {quantity_text(speed, 'B/s')}" if speed is not None else ""
    return (
        f"{quantity_text(a_token, 'B')} a token from disk{at}, {streamed.hit_share:.0%} of experts in memory"
    )


def _experts_row(receipt: Receipt) -> str | None:
    """What became of the experts that were asked for; None where all are in memory."""
    streamed = receipt.streamed
    if streamed is None or not streamed.uses:
        return None
    shares = [
        f"{number / streamed.uses:.1%} {name}"
        for name, number in (
            ("pinned", streamed.pinned),
            ("cached", streamed.cached),
            ("read ahead", streamed.prefetched),
            ("missed", streamed.missed),
        )
        if number
    ]
    speed = streamed.disk_bytes_per_s
    at = f"; the disk gave {quantity_text(speed, 'B/s')} while busy" if speed is not None else ""
    return f"{streamed.uses:,} asked for: {', '.join(shares)}{at}"


def _energy_row(joules: Joules) -> str:
    how = "modelled" if joules.is_modelled else "measured"
    idle = "idling not known" if joules.idle is None else f"{quantity_text(joules.idle, 'J')} of it idling"
    return f"{energy_text(joules)}, {how} ({joules.method.removeprefix('model:')}), {idle}"


def _carbon_row(receipt: Receipt) -> str:
    intensity = receipt.tariff.intensity
    dated = "" if intensity.year is None else f"{intensity.country} in {intensity.year}; "
    grid = f"{intensity.grams_per_kwh:.0f} g/kWh, {dated}{intensity.source}"
    return f"{_grams(receipt)} CO2e ({grid})"


def _money_row(receipt: Receipt) -> str | None:
    prices, money = receipt.tariff.prices, _money(receipt)
    if prices is None or money is None:
        return None
    dated = f"the prices of {prices.name} of {prices.date};" if prices.date else "prices"
    return f"{money} at {dated} {prices.source}"


def _money(receipt: Receipt) -> str | None:
    """What the tokens would cost, or None without prices."""
    prices, money = receipt.tariff.prices, receipt.money
    return None if prices is None or money is None else f"{money_text(money)} {prices.currency}"


def _grams(receipt: Receipt) -> str:
    mark = "~" if receipt.joules.is_modelled else ""
    return mark + quantity_text(receipt.grams_co2e, "g")


def _tokens(number: int) -> str:
    return f"{number} token" if number == 1 else f"{number} tokens"


def _count(number: int) -> str:
    """Parameters, as models are named: `671B`, `7.81M`."""
    return quantity_text(number, "").replace(" ", "").replace("G", "B").replace("k", "K")
