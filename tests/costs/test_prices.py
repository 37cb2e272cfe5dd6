"""Price lists: what they hold, what requests cost by them, and what is refused."""

from __future__ import annotations

import re

import pytest

from araio.costs.prices import find_prices, known_prices, stated_prices
from araio.errors import CostError


@pytest.mark.parametrize("name", known_prices())
def test_every_list_is_dated_and_attributed(name):
    prices = find_prices(name)
    assert prices.name == name
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", prices.date)
    assert "https://" in prices.source
    assert 0 < prices.cached_input < prices.input < prices.output


def test_cached_tokens_are_part_of_the_prompt():
    prices = find_prices("deepseek-r1")
    assert prices.of(1_000_000, 0, 0) == 0.55
    assert prices.of(1_000_000, 1_000_000, 0) == 0.14
    assert prices.of(1_000_000, 250_000, 1_000_000) == pytest.approx(0.75 * 0.55 + 0.25 * 0.14 + 2.19)
    assert prices.of(0, 0, 0) == 0


def test_prices_of_ones_own():
    stated = stated_prices(input=2, output=8)
    assert stated.of(500_000, 500_000, 250_000) == 3
    assert stated_prices(2, 8, cached_input=0).of(500_000, 500_000, 250_000) == 2
    assert (stated.name, stated.date, stated.currency) == ("stated", "", "USD")


@pytest.mark.parametrize(
    ("ask", "found"),
    [
        (lambda: find_prices("gpt"), "no price list is called 'gpt'; known: deepseek-v3-launch, .*sonnet"),
        (lambda: stated_prices(-1, 2), "input is -1; expected a number of zero or more"),
        (lambda: stated_prices(1, float("inf")), "output is inf"),
        (lambda: stated_prices(1, 2, cached_input=float("nan")), "cached_input is nan"),
        (lambda: stated_prices(1, 2).of(1, 2, 0), "cached is 2, more than the 1 tokens of the prompt"),
        (lambda: stated_prices(1, 2).of(1, 0, -1), "output is -1; expected a whole number of at least 0"),
    ],
)
def test_what_is_refused(ask, found):
    with pytest.raises(CostError, match=found) as refusal:
        ask()
    assert "\n" not in str(refusal.value)
