"""`RunReceipt`: what the steps of a run took, kept in its folder as `receipt.json` beside the state.

It is written with every state and read again with it, so a run that stops and goes on has one receipt; steps
that were lost with a kill, and done again, count once. A run may go on where joules are counted by another
method: they are kept apart, for measured and modelled ones are never added. Read `loop.py` for who asks.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from araio.atomic import write_text
from araio.costs.receipt import Joules
from araio.costs.receipt_text import energy_text, quantity_text
from araio.costs.tariff import Tariff
from araio.errors import TrainingError
from araio.json_reader import read_object
from araio.meters.energy import Energy
from araio.meters.meter import Meter

__all__ = ["RunReceipt"]

MAX_BYTES = 1 << 20


@dataclass
class _Totals:
    """Of all steps up to the last saved state; joules by their method."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    energy: dict[str, Joules] = field(default_factory=dict)

    def add(self, energy: Energy) -> None:
        """The joules of one window more."""
        window = Joules(energy.joules, energy.low, energy.high, energy.idle_joules, energy.method)
        before = self.energy.get(energy.method)
        self.energy[energy.method] = window if before is None else before.plus(window)


class RunReceipt:
    """Counts while a run goes on.

    path    of `receipt.json`
    meter   of the joules
    tariff  whose grid the grams are of

    Raises TrainingError for a file that is no receipt.
    """

    def __init__(self, path: Path, meter: Meter, tariff: Tariff) -> None:
        self.path, self.meter, self._tariff = path, meter, tariff
        self._totals = _Totals()
        self._of_line = self._of_state = meter.mark()

    def resume(self) -> None:
        """Go on from what the file says, if there is one: a run may be older than its receipt."""
        if not self.path.exists():
            return
        try:
            self._totals = _read(read_object(self.path, MAX_BYTES))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{self.path}: is not the receipt of a run ({error}); move it away") from None

    def begin(self) -> None:
        """Steps follow: what was drawn before is not theirs."""
        self._of_line = self._of_state = self.meter.mark()

    def count(self, tokens: int, seconds: float) -> None:
        """One step."""
        self._totals.steps += 1
        self._totals.tokens += tokens
        self._totals.seconds += seconds

    def since_line(self) -> Energy:
        """The joules since the last line of the log."""
        start, self._of_line = self._of_line, self.meter.mark()
        return self.meter.between(start, self._of_line)

    def save(self) -> None:
        """Write the file, which belongs to the state that was saved just before."""
        start, self._of_state = self._of_state, self.meter.mark()
        self._totals.add(self.meter.between(start, self._of_state))
        try:
            write_text(self.path, json.dumps(self.to_json(), indent=2) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written ({error.strerror})") from None

    def to_json(self) -> dict[str, Any]:
        """The document; one entry of energy for each method."""
        totals = self._totals
        return {
            "steps": totals.steps,
            "tokens": totals.tokens,
            "seconds": totals.seconds,
            "energy": [joules.to_json() for joules in totals.energy.values()],
            "grams_co2e": self._grams(),
            "grid": asdict(self._tariff.intensity),
        }

    def text(self) -> str:
        """In one line."""
        totals = self._totals
        energy = " and ".join(energy_text(joules) for joules in totals.energy.values())
        mark = "~" if any(joules.is_modelled for joules in totals.energy.values()) else ""
        return (
            f"{totals.steps} steps, {totals.tokens:,} tokens, {totals.seconds:,.1f} s, {energy}, "
            f"{mark}{quantity_text(self._grams(), 'g')} CO2e"
        )

    def _grams(self) -> float:
        return sum(self._tariff.intensity.grams(joules.best) for joules in self._totals.energy.values())


def _read(document: dict[str, Any]) -> _Totals:
    """The totals of a document of `to_json`; its grams follow from them.

    Raises ValueError, KeyError or TypeError for any other document.
    """
    energy = {}
    for entry in document["energy"]:
        idle, method = entry["idle_joules"], str(entry["joules_method"])
        best, low, high = (float(entry[key]) for key in ("joules", "joules_low", "joules_high"))
        energy[method] = Joules(best, low, high, None if idle is None else float(idle), method)
    return _Totals(int(document["steps"]), int(document["tokens"]), float(document["seconds"]), energy)
