"""`Tariff`: what a joule and a token are taken to be worth: grams of a power grid, money of a price list.

A flag comes before `ARAIO_COUNTRY` and `ARAIO_PRICES`, and those before the defaults: the world's average
grid, and no money, unless a price list bears the model's own name. Read `grid.py` and `prices.py` for what
there is to choose from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from araio import env
from araio.costs.grid import WORLD, Intensity, find_intensity, stated_intensity
from araio.costs.prices import Prices, find_prices, known_prices, stated_prices
from araio.errors import CostError
from araio.json_reader import shown

__all__ = ["Tariff", "choose_tariff", "default_tariff"]


@dataclass(frozen=True)
class Tariff:
    """The grid that the joules come from, and the prices of tokens; None where nobody stated any."""

    intensity: Intensity
    prices: Prices | None


def choose_tariff(model: str, country: str | None = None, prices: str | None = None) -> Tariff:
    """What is asked for, or what the environment says.

    model    its name or folder; where a price list is called the same, it is the default
    country  a code or a name, or grams of CO2 equivalent per kWh; None reads `ARAIO_COUNTRY`
    prices   a price list, `INPUT,OUTPUT` or `INPUT,CACHED,OUTPUT` in dollars per million tokens, or `none`;
             None reads `ARAIO_PRICES`

    Raises CostError for a country or a list that is not known, and for numbers below zero.
    """
    grid = env.get("ARAIO_COUNTRY") if country is None else country
    wanted = env.get("ARAIO_PRICES") if prices is None else prices
    return Tariff(_intensity(grid), _prices(wanted, model))


def default_tariff(model: str) -> Tariff:
    """That of somebody who asks for nothing: the world's grid, and prices where a list is called like it."""
    return choose_tariff(model, WORLD, "auto")


def _intensity(text: str) -> Intensity:
    grams = _numbers([text])
    return stated_intensity(grams[0]) if grams else find_intensity(text)


def _prices(text: str, model: str) -> Prices | None:
    if text == "none":
        return None
    if text == "auto":
        return known_prices().get(PurePath(model).name.lower())
    match _numbers(text.split(",")):
        case [input_price, output]:
            return stated_prices(input_price, output)
        case [input_price, cached, output]:
            return stated_prices(input_price, output, cached)
        case []:
            return find_prices(text)
    raise CostError(
        f"prices are {shown(text)}; expected INPUT,OUTPUT or INPUT,CACHED,OUTPUT per million tokens, or the "
        f"name of a list: {', '.join(known_prices())}"
    )


def _numbers(words: Sequence[str]) -> list[float]:
    """The words as numbers; none where one of them is no number."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
