"""Which grid and which prices count: flag, then environment, then default."""

import pytest

from araio.costs.grid import find_intensity
from araio.costs.prices import find_prices
from araio.costs.tariff import choose_tariff
from araio.errors import CostError


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("ARAIO_COUNTRY", "ARAIO_PRICES"):
        monkeypatch.delenv(name, raising=False)


def test_the_default_is_the_world_without_money():
    tariff = choose_tariff("pocket")
    assert (tariff.intensity, tariff.prices) == (find_intensity(), None)


@pytest.mark.parametrize("model", ["deepseek-r1", "/models/DeepSeek-R1", "models/deepseek-r1/"])
def test_a_model_that_a_list_is_called_after_has_its_prices(model):
    assert choose_tariff(model).prices == find_prices("deepseek-r1")
    assert choose_tariff(model, prices="none").prices is None


def test_a_flag_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("ARAIO_COUNTRY", "FRA")
    monkeypatch.setenv("ARAIO_PRICES", "1,2")
    assert choose_tariff("pocket").intensity.country == "France"
    assert choose_tariff("pocket").prices.output == 2
    flagged = choose_tariff("pocket", "Poland", "deepseek-r1")
    assert (flagged.intensity.country, flagged.prices.name) == ("Poland", "deepseek-r1")


def test_numbers_of_ones_own():
    tariff = choose_tariff("pocket", "41.5", "0.5,0.1,2")
    assert (tariff.intensity.grams_per_kwh, tariff.intensity.year) == (41.5, None)
    prices = tariff.prices
    assert (prices.input, prices.cached_input, prices.output, prices.currency) == (0.5, 0.1, 2.0, "USD")
    assert choose_tariff("pocket", prices="0.5, 2").prices.cached_input == 0.5


@pytest.mark.parametrize(
    ("country", "prices", "message"),
    [
        ("Atlantis", None, "Atlantis"),
        ("-3", None, "grams_per_kwh"),
        ("nan", None, "nan"),
        (None, "gpt-9", "no price list is called"),
        (None, "1", "expected INPUT,OUTPUT"),
        (None, "1,2,3,4", "expected INPUT,OUTPUT"),
        (None, "1,-2", "output"),
        (None, "1,inf", "no price list is called"),
    ],
)
def test_what_nothing_can_be_counted_with_is_told(country, prices, message):
    with pytest.raises(CostError, match=message):
        choose_tariff("pocket", country, prices)
