"""`ReceiptLog`: the receipts of answers, a line of numbers each, in a SQLite file of the user's.

It keeps when, which model, and numbers; never a word of a prompt or an answer. Several processes may write at
the same time. Whoever cannot write it gets a `LogError`, which must not cost anybody an answer: the command
line notes it once and goes on. Read `cli/commands/receipts.py` for what is made of it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from araio.costs.receipt import MODELLED, Receipt
from araio.errors import LogError

__all__ = ["GROUPS", "Group", "ReceiptLog", "Total", "log_path"]

Group: TypeAlias = Literal["day", "model", "profile"]

# What receipts are summed by, in SQL; days are those of the user's clock.
GROUPS: dict[Group, str] = {
    "day": "date(at, 'unixepoch', 'localtime')",
    "model": "model",
    "profile": "coalesce(profile, '')",
}

VERSION = 1
BUSY_S = 5.0  # to wait for another process that writes

_DO_WITHOUT = "do without: ARAIO_RECEIPTS=off"

_TABLE = """
CREATE TABLE IF NOT EXISTS receipts (
    at REAL NOT NULL, model TEXT NOT NULL, profile TEXT,
    prompt_tokens INTEGER, cached_tokens INTEGER, reasoning_tokens INTEGER, answer_tokens INTEGER,
    flops REAL, memory_bytes REAL, disk_bytes REAL, seconds REAL,
    joules REAL, joules_low REAL, joules_high REAL, joules_method TEXT,
    grams_co2e REAL, money REAL, currency TEXT
)"""

_SUMS = (
    "prompt_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "answer_tokens",
    "flops",
    "memory_bytes",
    "disk_bytes",
    "seconds",
    "joules",
    "joules_low",
    "joules_high",
    "grams_co2e",
)


@dataclass
class Total:
    """What the answers of one day, model or profile add up to.

    flops            operations; 64 bits would not hold those of all answers
    seconds          in line, in the prompt and in decoding
    measured_joules  by a counter; never added to the modelled ones
    modelled_joules  by a model, between `modelled_low` and `modelled_high`
    measured_grams   of CO2 equivalent, of the measured joules; `modelled_grams` of the modelled ones
    money            by currency, of those answers that had prices
    """

    name: str
    answers: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    answer_tokens: int = 0
    flops: float = 0.0
    memory_bytes: float = 0.0
    disk_bytes: float = 0.0
    seconds: float = 0.0
    measured_joules: float = 0.0
    modelled_joules: float = 0.0
    modelled_low: float = 0.0
    modelled_high: float = 0.0
    measured_grams: float = 0.0
    modelled_grams: float = 0.0
    money: dict[str, float] = field(default_factory=dict)


def log_path() -> Path:
    """Where the log lies: below `XDG_STATE_HOME`, or `~/.local/state` (XDG Base Directory Specification).

    Raises LogError for a user without a home.
    """
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    # A relative path is to be ignored, says the specification.
    if not base.is_absolute():
        try:
            base = Path("~/.local/state").expanduser()
        except RuntimeError:
            raise LogError(
                "the log of receipts has no place, for this user has no home; set XDG_STATE_HOME to a "
                f"folder, or {_DO_WITHOUT}"
            ) from None
    return base / "araio" / "receipts.sqlite3"


class ReceiptLog:
    """One file; opened for each use, so that nothing is held in between."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = log_path() if path is None else path

    def add(self, receipt: Receipt, *, profile: str | None = None, at: float | None = None) -> None:
        """Keep a receipt.

        profile  whose experts alone made the answer, by name
        at       seconds since 1970; now if None

        Raises LogError where the file cannot be written.
        """
        prices = receipt.tariff.prices
        row = (
            time.time() if at is None else at,
            # A folder's name may hold bytes that are no text, which SQLite would refuse.
            receipt.model.encode(errors="replace").decode(),
            profile,
            receipt.prompt_tokens,
            receipt.cached_tokens,
            receipt.reasoning_tokens,
            receipt.answer_tokens,
            float(receipt.flops),
            float(receipt.memory_bytes),
            float(receipt.disk_bytes),
            receipt.queue_s + receipt.prefill_s + receipt.decode_s,
            receipt.joules.best,
            receipt.joules.low,
            receipt.joules.high,
            receipt.joules.method,
            receipt.grams_co2e,
            receipt.money,
            None if prices is None else prices.currency,
        )
        marks = ", ".join("?" * len(row))
        with self._opened() as file, file:
            file.execute(f"INSERT INTO receipts VALUES ({marks})", row)  # noqa: S608 - marks are ours

    def totals(self, by: Group = "day", since: float = 0.0) -> list[Total]:
        """Sums by day, model or profile, in the order of their names; none without a log.

        since  seconds since 1970

        Raises LogError where the file cannot be read.
        """
        if not self.path.exists():
            return []
        sums = ", ".join(f"sum({name})" for name in _SUMS)
        query = (
            f"SELECT {GROUPS[by]} AS name, joules_method LIKE ? AS modelled, currency, count(*), sum(money), "  # noqa: S608
            f"{sums} FROM receipts WHERE at >= ? GROUP BY name, modelled, currency ORDER BY name"
        )
        found: dict[str, Total] = {}
        with self._opened() as file:
            for name, modelled, currency, answers, money, *values in file.execute(
                query, (f"{MODELLED}%", since)
            ):
                total = found.setdefault(name, Total(name))
                total.answers += answers
                _add(total, dict(zip(_SUMS, values, strict=True)), is_modelled=bool(modelled))
                if currency is not None:
                    total.money[currency] = total.money.get(currency, 0.0) + money
        return list(found.values())

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The file with its table; whatever SQLite or the system has against it becomes a LogError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=BUSY_S)) as file:
                self._prepare(file)
                yield file
        except (sqlite3.Error, OSError) as error:
            raise LogError(
                f"the log of receipts, {self.path}, cannot be used ({error}); make room or move it away, or "
                f"{_DO_WITHOUT}"
            ) from None

    def _prepare(self, file: sqlite3.Connection) -> None:
        # SQLite's own journal: to change to a write-ahead log, two that begin a file at once do not wait for
        # each other, and one would fail.
        (version,) = file.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        if version:
            raise LogError(
                f"the log of receipts, {self.path}, has version {version}; this araio knows {VERSION}, so "
                "update araio or move the file away"
            )
        with file:
            file.execute(_TABLE)
            file.execute(f"PRAGMA user_version = {VERSION}")


def _add(total: Total, sums: dict[str, float], is_modelled: bool) -> None:
    joules, low, high, grams = (
        sums.pop(name) for name in ("joules", "joules_low", "joules_high", "grams_co2e")
    )
    for name, value in sums.items():
        setattr(total, name, getattr(total, name) + value)
    if is_modelled:
        total.modelled_joules += joules
        total.modelled_low += low
        total.modelled_high += high
        total.modelled_grams += grams
    else:
        total.measured_joules += joules
        total.measured_grams += grams
