"""Prices of tokens: dated lists with their source, and what a number of tokens costs by one.

The lists lie in `data/prices.toml`; they are what providers charged, not what a run here costs. Whoever has
other prices states them. An unknown list is refused with the names of those that exist.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from araio.costs.checks import require_at_least, require_rate
from araio.errors import CostError
from araio.json_reader import shown

__all__ = ["Prices", "find_prices", "known_prices", "stated_prices"]

TOKENS_PER_PRICE = 1_000_000

_FILE = Path(__file__).parent / "data" / "prices.toml"


@dataclass(frozen=True)
class Prices:
    """One price list, per million tokens.

    date          ISO; from when it held, or when it was read; empty where somebody stated it
    source        where it was read
    input         of prompt tokens
    cached_input  of prompt tokens that the provider had in its cache
    output        of generated tokens, reasoning included
    """

    name: str
    date: str
    source: str
    currency: str
    input: float
    cached_input: float
    output: float

    def __post_init__(self) -> None:
        require_rate(input=self.input, cached_input=self.cached_input, output=self.output)

    def of(self, prompt: int, cached: int, output: int) -> float:
        """What a request costs, in `currency`.

        prompt  tokens of the prompt, those in the cache included
        cached  of them, tokens that were in the cache
        output  generated tokens

        Raises CostError for negative numbers, and for more cached tokens than the prompt has.
        """
        require_at_least(0, prompt=prompt, cached=cached, output=output)
        if cached > prompt:
            raise CostError(
                f"cached is {cached}, more than the {prompt} tokens of the prompt that it is part of"
            )
        million = (prompt - cached) * self.input + cached * self.cached_input + output * self.output
        return million / TOKENS_PER_PRICE


def find_prices(name: str) -> Prices:
    """The list of that name; raises CostError, with the names of all lists, if there is none."""
    lists = known_prices()
    if name not in lists:
        raise CostError(f"no price list is called {shown(name)}; known: {', '.join(lists)}")
    return lists[name]


def stated_prices(
    input: float,  # noqa: A002  prices are called this everywhere
    output: float,
    cached_input: float | None = None,
    currency: str = "USD",
) -> Prices:
    """A list of one's own, per million tokens; cached tokens cost as others unless said otherwise.

    Raises CostError for a negative price.
    """
    cached = input if cached_input is None else cached_input
    return Prices("stated", "", "stated by the user", currency, input, cached, output)


@cache
def known_prices() -> MappingProxyType[str, Prices]:
    """Every list by name."""
    with _FILE.open("rb") as handle:
        tables = tomllib.load(handle)
    return MappingProxyType({name: Prices(name=name, **table) for name, table in tables.items()})
