"""What `araio plan` shows: one column for each machine, one line for each question, and what is known how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from araio.cli.numbers import bytes_text, count_text
from araio.cli.printable import printable
from araio.config import ModelConfig
from araio.costs.parameters import count_parameters
from araio.costs.plan import Prediction, Site, predict
from araio.costs.storage import Storage
from araio.costs.tariff import Tariff
from araio.costs.tiers import Load
from araio.costs.timing import Timing
from araio.costs.twins import twin_of_active_size, twin_of_total_size
from araio.errors import CostError

__all__ = ["Comparison", "compare", "plan_document", "plan_screen"]


@dataclass(frozen=True)
class Comparison:
    """A model on a machine, and its dense twins there; None for a twin that does not fit, or has no use."""

    model: Prediction
    total_twin: Prediction | None
    active_twin: Prediction | None


def compare(
    config: ModelConfig, site: Site, load: Load, storage: Storage, hit_rate: float | None
) -> Comparison:
    """Predict; raises CostError as `costs.plan.predict` does of the model itself."""
    model = predict(config, site, load, storage, hit_rate)
    if not config.moe_layers:
        return Comparison(model, None, None)

    def twin(of: Callable[[ModelConfig], ModelConfig]) -> Prediction | None:
        try:
            return predict(of(config), site, load, storage)
        except CostError:
            return None

    return Comparison(model, twin(twin_of_total_size), twin(twin_of_active_size))


def plan_screen(
    name: str,
    config: ModelConfig,
    found: Sequence[Comparison],
    storage: Storage,
    tariff: Tariff,
    per_kwh: float,
    rent: float | None,
    hit_rate: float | None = None,
) -> Group:
    """The table and the notes; `hit_rate` is the one that was asked for."""
    size, load = count_parameters(config, storage).model, found[0].model.load
    sequences = f"{load.batch} sequence{'s' if load.batch > 1 else ''} of {load.context:,} tokens"
    title = (
        f"{name}: {count_text(size.total)} parameters, {count_text(size.active)} active, "
        f"{'experts' if config.moe_layers else 'stored'} in {storage.experts}; {sequences}"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="dim", no_wrap=True)
    for one in found:
        table.add_column(Text(printable(one.model.site.title)), justify="right")
    for label, cell in _lines(tariff, per_kwh, rent).items():
        cells = [cell(one) for one in found]
        if any(cells):
            table.add_row(label, *map(Text, cells))
    return Group(
        Text(printable(title), style="bold"),
        table,
        Text(),
        *map(Text, _notes(found, tariff, per_kwh, hit_rate)),
    )


def _lines(tariff: Tariff, per_kwh: float, rent: float | None) -> dict[str, Callable[[Comparison], str]]:
    """What is shown, by label, in order; a line that is empty for every machine is left out."""
    return {
        "memory": lambda c: _bytes(c.model.site.memory_bytes) or "as much as it takes",
        "  needed for everything": lambda c: bytes_text(c.model.tiers.whole),
        "  least that runs": lambda c: bytes_text(c.model.tiers.smallest),
        "  weights of every token": lambda c: bytes_text(c.model.tiers.dense),
        "  experts in memory": lambda c: _experts(c.model),
        "  experts on disk": lambda c: _bytes(c.model.tiers.on_disk),
        "  cache": lambda c: bytes_text(c.model.tiers.cache),
        "hits": lambda c: f"{c.model.hit_rate:.0%}" if c.model.tiers.on_disk else "",
        "decoding, tokens/s": lambda c: _speed(c.model.tokens_per_s),
        "  of each sequence": lambda c: _speed(c.model.tokens_per_s_each) if c.model.load.batch > 1 else "",
        "  a step": lambda c: _seconds(c.model.decode.seconds),
        "  bound by": lambda c: _bound(c.model.decode),
        "  limit of reading ahead": lambda c: _read_ahead(c.model),
        "prompt, tokens/s": lambda c: _prompt(c.model),
        "  whole prompt": lambda c: _seconds(c.model.prefill.seconds) if c.model.prefill else "",
        "  bound by ": lambda c: _bound(c.model.prefill) if c.model.prefill else "",
        "watts while decoding": lambda c: _modelled(c.model.watts),
        "joules a token": lambda c: _modelled(c.model.joules),
        "million tokens, CO2e": lambda c: "~" + _grams(c.model.grams(tariff.intensity)),
        "  electricity": lambda c: "~" + _dollars(c.model.electricity(per_kwh)),
        "  rent": lambda c: "" if rent is None else _dollars(c.model.rent(rent)),
        "dense, as large in all": lambda c: _twin(c.model, c.total_twin),
        "dense, as large in use": lambda c: _twin(c.model, c.active_twin),
    }


def _notes(found: Sequence[Comparison], tariff: Tariff, per_kwh: float, hit_rate: float | None) -> list[str]:
    """How each figure came about, and what was asked for in vain."""
    grid = tariff.intensity
    year = f", {grid.year}" if grid.year else ""
    notes = [f"{one.model.site.name}: {_origin(one.model.site)}" for one in found]
    notes.append(
        f"~ is modelled: watts between idle and full power; grams at {grid.grams_per_kwh:.0f} g/kWh, "
        f"{grid.country}{year}; electricity at {per_kwh:g} USD/kWh"
    )
    if (prices := tariff.prices) is not None:
        notes.append(
            f"{prices.name} by API, a million tokens: {prices.input:g} in, {prices.output:g} out "
            f"{prices.currency} ({prices.date or 'stated'})"
        )
    if any(one.model.tiers.on_disk for one in found):
        notes.append("experts on disk are read while the shared expert and those in memory are computed")
    whole = [one.model.site.name for one in found if not one.model.tiers.on_disk]
    if hit_rate is not None and whole:
        notes.append(f"--hit-rate changes nothing on {', '.join(whole)}: every expert is in memory")
    return notes


def _origin(site: Site) -> str:
    if site.is_measured:
        return f"speeds {site.source}"
    if not site.rates.knows_compute:
        return f"bandwidth of {site.source}, 80 % of it; compute unknown, so decoding is a ceiling"
    return f"speeds of {site.source}; reached shares of the peak, and seconds of a layer, are stated"


def _bytes(size: float | None) -> str:
    return bytes_text(round(size)) if size else ""


def _experts(model: Prediction) -> str:
    tiers = model.tiers
    share = f" ({tiers.resident_share:.0%})" if tiers.on_disk else ""
    return bytes_text(tiers.experts) + share if tiers.experts or tiers.on_disk else ""


def _bound(timing: Timing) -> str:
    bound = timing.bound
    return f"{bound} ({timing.shares[bound]:.0%})"


def _read_ahead(model: Prediction) -> str:
    if not model.tiers.on_disk:
        return ""
    return f"{_speed(model.load.batch / model.decode.read_ahead_s)} tok/s"


def _prompt(model: Prediction) -> str:
    return _speed(model.prefill.tokens_per_s) if model.prefill else "unknown"


def _twin(model: Prediction, twin: Prediction | None) -> str:
    if not (model.tiers.experts or model.tiers.on_disk):
        return ""
    if twin is None:
        return "does not fit"
    ratio = model.tokens_per_s / twin.tokens_per_s
    return f"{_speed(twin.tokens_per_s)} tok/s, {ratio:.{2 if ratio < 10 else 0}f}x"


def _modelled(bounds: tuple[float, float, float]) -> str:
    """The guess with a sign that it is one, and its bounds, as in a receipt."""
    low, best, high = bounds
    return f"~{_digits(best)} ({_digits(low)} to {_digits(high)})"


def _grams(grams: float) -> str:
    return f"{_digits(grams / 1000)} kg" if grams >= 1000 else f"{_digits(grams)} g"


def _dollars(money: float) -> str:
    return f"{money:,.2f} USD" if money >= 0.01 else f"{_digits(money)} USD"


def _speed(tokens_per_s: float) -> str:
    return _digits(tokens_per_s)


def _seconds(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:,.1f} min"
    return f"{_digits(seconds)} s" if seconds >= 1 else f"{_digits(seconds * 1000)} ms"


def _digits(number: float) -> str:
    """Three digits where they matter: 2,143 and 14.9 and 0.830."""
    if number >= 100:
        return f"{number:,.0f}"
    if number >= 10:
        return f"{number:.1f}"
    return f"{number:.2f}" if number >= 0.1 else f"{number:.2g}"


def plan_document(
    name: str,
    found: Sequence[Comparison],
    storage: Storage,
    tariff: Tariff,
    per_kwh: float,
    rent: float | None,
) -> dict[str, Any]:
    """The JSON document of `araio plan --json`."""
    return {
        "model": name,
        "codecs": asdict(storage),
        "load": asdict(found[0].model.load),
        "intensity": asdict(tariff.intensity),
        "prices": asdict(tariff.prices) if tariff.prices else None,
        "usd_per_kwh": per_kwh,
        "usd_per_hour": rent,
        "machines": [_machine(one, tariff, per_kwh, rent) for one in found],
    }


def _machine(one: Comparison, tariff: Tariff, per_kwh: float, rent: float | None) -> dict[str, Any]:
    model, site = one.model, one.model.site
    joules_low, joules, joules_high = model.joules
    watts_low, watts, watts_high = model.watts
    return {
        "hardware": site.name,
        "title": site.title,
        "method": "measured" if site.is_measured else "published",
        "source": site.source,
        "memory_bytes": site.memory_bytes,
        "disk_bytes_per_s": site.disk_bytes_per_s,
        "bytes": asdict(model.tiers),
        "hit_rate": model.hit_rate,
        "decode": _timing(model.decode) | {"tok_per_s_each": model.tokens_per_s_each},
        "prefill": _timing(model.prefill) if model.prefill else None,
        "watts": watts,
        "watts_low": watts_low,
        "watts_high": watts_high,
        "per_token": {
            "joules": joules,
            "joules_low": joules_low,
            "joules_high": joules_high,
            "joules_method": "model:roofline",
        },
        "per_million_tokens": {
            "g_co2e": model.grams(tariff.intensity),
            "electricity_usd": model.electricity(per_kwh),
            "rent_usd": None if rent is None else model.rent(rent),
        },
        "dense_twins": {
            "total": _twin_document(one.total_twin),
            "active": _twin_document(one.active_twin),
        },
    }


def _timing(timing: Timing) -> dict[str, Any]:
    return {
        "tok_per_s": timing.tokens_per_s,
        "seconds": timing.seconds,
        "read_ahead_seconds": timing.read_ahead_s,
        "bound": timing.bound,
        "shares": timing.shares,
        "fixed_seconds": timing.fixed_s,
        "parts": [asdict(part) for part in timing.parts],
    }


def _twin_document(twin: Prediction | None) -> dict[str, Any] | None:
    if twin is None:
        return None
    return {"tok_per_s": twin.tokens_per_s, "joules": twin.joules[1], "bytes": asdict(twin.tiers)}
