"""Carbon intensity of electricity by country, and grams of CO2 equivalent from joules.

The table in `data/grid.csv` is Our World in Data's, made of Ember's yearly data: what a country's own power
stations emitted for each kWh they generated, over a whole year. Imports, the hour of the day and the contract
of a data centre are not in it; published tables differ by 3 to 22 %, so every figure names its year. Whoever
knows better states a number.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType

from araio.costs.checks import require_rate
from araio.errors import CostError
from araio.json_reader import shown

__all__ = ["JOULES_PER_KWH", "WORLD", "Intensity", "find_intensity", "known_intensities", "stated_intensity"]

JOULES_PER_KWH = 3_600_000
WORLD = "WORLD"

_FILE = Path(__file__).parent / "data" / "grid.csv"
_SOURCE = "Our World in Data and Ember, CC BY 4.0"


@dataclass(frozen=True)
class Intensity:
    """Grams of CO2 equivalent for each kWh of electricity.

    country  by its English name
    year     of the data; None where somebody stated the number
    """

    country: str
    grams_per_kwh: float
    year: int | None
    source: str

    def __post_init__(self) -> None:
        require_rate(grams_per_kwh=self.grams_per_kwh)

    def grams(self, joules: float) -> float:
        """Grams of CO2 equivalent of so much electricity; raises CostError for negative joules."""
        require_rate(joules=joules)
        return joules / JOULES_PER_KWH * self.grams_per_kwh


def find_intensity(country: str = WORLD) -> Intensity:
    """The intensity of a country, by its ISO 3166 code of three letters or its English name, in any case.

    Raises CostError for a country that is not in the table, with those that are near.
    """
    table = known_intensities()
    by_name = {intensity.country.upper(): intensity for intensity in table.values()} | table
    wanted = country.strip().upper()
    if wanted in by_name:
        return by_name[wanted]
    near = get_close_matches(wanted, by_name, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "a code or a name is DEU or Germany."
    raise CostError(
        f"{shown(country)} is none of the {len(table) - 1} countries of the table, nor {WORLD}; "
        f"{hint} Grams per kWh can be stated instead"
    )


def stated_intensity(grams_per_kwh: float) -> Intensity:
    """A number of one's own; raises CostError if it is negative."""
    return Intensity("stated", grams_per_kwh, None, "stated by the user")


@cache
def known_intensities() -> MappingProxyType[str, Intensity]:
    """Every country of the table by its code; the world's average comes first."""
    with _FILE.open(encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(line for line in handle if not line.startswith("#"))
        return MappingProxyType(
            {
                row["code"]: Intensity(row["country"], float(row["grams_per_kwh"]), int(row["year"]), _SOURCE)
                for row in rows
            }
        )
