"""Carbon intensity by country: what the table holds, grams of it, and what is refused."""

from __future__ import annotations

import pytest

from araio.costs.grid import find_intensity, known_intensities, stated_intensity
from araio.errors import CostError


def test_every_row_is_dated_attributed_and_possible():
    table = known_intensities()
    assert len(table) == 213
    for code, intensity in table.items():
        assert len(code) == 3 or code == "WORLD"
        assert 1 < intensity.grams_per_kwh < 1_500
        assert 2009 <= intensity.year <= 2023
        assert "Our World in Data" in intensity.source


def test_no_country_is_the_world():
    world = find_intensity()
    assert world == find_intensity("world")
    assert (world.country, world.grams_per_kwh, world.year) == ("World", 480.849, 2023)


@pytest.mark.parametrize("country", ["DEU", "deu", "Germany", " germany "])
def test_a_country_goes_by_its_code_and_its_name(country):
    assert find_intensity(country).grams_per_kwh == 380.95


def test_grams_of_joules():
    assert stated_intensity(500).grams(7_200_000) == 1000
    assert find_intensity("FRA").grams(0) == 0


@pytest.mark.parametrize(
    ("ask", "found"),
    [
        (lambda: find_intensity("Germny"), "'Germny' is none of the 212 countries .*; did you mean GERMANY"),
        (lambda: find_intensity("Q"), "'Q' is none .*; a code or a name is DEU or Germany"),
        (lambda: find_intensity("x" * 10_000), "is none of the 212 countries"),
        (lambda: stated_intensity(-1), "grams_per_kwh is -1; expected a number of zero or more"),
        (lambda: stated_intensity(float("nan")), "grams_per_kwh is nan"),
        (lambda: find_intensity().grams(-5), "joules is -5"),
    ],
)
def test_what_is_refused(ask, found):
    with pytest.raises(CostError, match=found) as refusal:
        ask()
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400
