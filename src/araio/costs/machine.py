"""`Machine`: this machine's speeds as they were measured, and their document.

The numbers come from `eval/machine.py`, which also keeps the document; a document of another processor, of
other kernels or of another form is no error there, but a reason to measure again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from araio.costs.checks import require_positive
from araio.costs.speeds import Attention, Curve, Fixed, Product, Speeds
from araio.errors import CostError
from araio.json_reader import parse_object

__all__ = ["Machine"]

FORM = 1
"""Of the document; another one is not read."""


@dataclass(frozen=True)
class Machine:
    """What was measured.

    processor         its name
    kernels           what the kernels were compiled for
    date              ISO, of the latest measurement
    memory_bytes      all of the machine's
    rates             by number of threads
    disk_bytes_per_s  past the page cache; None where the system cannot, or nobody asked yet
    """

    processor: str
    kernels: str
    date: str
    memory_bytes: int
    rates: Mapping[int, Speeds] = field(default_factory=dict)
    disk_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        require_positive(memory_bytes=self.memory_bytes)
        if self.disk_bytes_per_s is not None:
            require_positive(disk_bytes_per_s=self.disk_bytes_per_s)

    def to_json(self) -> str:
        """The document."""
        return json.dumps({"form": FORM} | asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, content: bytes) -> Machine:
        """Read a document; raises CostError for one that `to_json` does not write."""
        try:
            document = parse_object(content)
            if document.pop("form") != FORM:
                raise CostError("the measurements of this machine have another form")
            rates = {int(threads): _rates(table) for threads, table in document.pop("rates").items()}
            return cls(rates=rates, **document)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CostError(f"the measurements of this machine cannot be read ({error})") from None


def _rates(table: dict[str, Any]) -> Speeds:
    table["products"] = {codec: _product(product) for codec, product in table["products"].items()}
    table["attention"]["decode"] = _curve(table["attention"]["decode"])
    table["attention"] = Attention(**table["attention"])
    table["fixed"] = Fixed(**table["fixed"])
    return Speeds(**table)


def _product(table: dict[str, Any]) -> Product:
    return Product(**table | {name: _curve(table[name]) for name in ("cached", "streamed")})


def _curve(table: dict[str, list[float]]) -> Curve:
    return Curve(tuple(table["sizes"]), tuple(table["speeds"]))
