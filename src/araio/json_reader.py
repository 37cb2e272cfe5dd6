"""Strict JSON: objects from files nobody vouches for, and their keys taken one by one.

`parse_object` refuses what Python's parser lets through although no two programs agree on it: a key given
twice, NaN and infinities, numbers beyond a float, nesting without end. `ObjectReader` takes typed keys out of
an object and then refuses the ones that nobody asked for. Read `config.py` next for its main use.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

from araio.errors import ConfigError

__all__ = ["ObjectReader", "parse_object", "read_object", "shown"]

MAX_DEPTH = 64  # real files nest three deep; recursion must end before Python's own stack does

MOST_SHOWN = 240  # characters of a value in a message

_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100


def shown(value: Any) -> str:
    """`repr` cut to a length that fits an error message, whatever the value holds."""
    text = _REPR.repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def read_object(path: Path, max_bytes: int) -> dict[str, Any]:
    """The JSON object in a file of at most `max_bytes`; raises ValueError with the reason if none is."""
    try:
        with path.open("rb") as handle:
            content = handle.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if len(content) > max_bytes:
        raise ValueError(f"is larger than {max_bytes:,} bytes, which no real one is")
    return parse_object(content)


def parse_object(content: bytes) -> dict[str, Any]:
    """The object in UTF-8 JSON; raises ValueError with the reason for anything else."""
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise ValueError(f"nests deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"holds {shown(value)}, not a JSON object")
    _check_depth(value)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {shown(repeated)} appears twice")
    return table


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} does not fit a float")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        nested = [child for child in level if isinstance(child, dict | list)]
        if not nested:
            return
        level = [c for n in nested for c in (n.values() if isinstance(n, dict) else n)]
    raise ValueError(f"nests deeper than {MAX_DEPTH} levels")


class ObjectReader:
    """Takes keys out of a document with a type check, and remembers which were taken.

    A key that is null counts as not given. Every method raises ConfigError, naming the key and its value.
    """

    def __init__(self, document: Mapping[str, Any], prefix: str = "") -> None:
        self.document = document
        self.prefix = prefix
        self.taken: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether the key holds a value; it counts as taken from here on."""
        self.taken.add(key)
        return self.document.get(key) is not None

    def failure(self, key: str, expected: str) -> ConfigError:
        """The error for a key whose value is not what was expected."""
        if key not in self.document:
            return ConfigError(f"{self.prefix}{key} is missing; expected {expected}")
        return ConfigError(f"{self.prefix}{key} is {shown(self.document[key])}; expected {expected}")

    def require(self, *keys: str) -> None:
        """Refuse a document that leaves a key out; null is an answer, absence is not."""
        for key in keys:
            if key not in self.document:
                raise self.failure(key, "a value, or null for none")

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer from `low` to `high`; without a default the key must be there."""
        if not self.has(key) and default is not None:
            return default
        value = self.document.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.failure(key, f"an integer from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: float) -> float:
        """A number from `low` to `high`."""
        if not self.has(key):
            return default
        value = self.document[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.failure(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        if not self.has(key):
            return default
        value = self.document[key]
        if not isinstance(value, bool):
            raise self.failure(key, "true or false")
        return value

    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str:
        """One of a few words; without a default the key must be there."""
        if not self.has(key) and default is not None:
            return default
        value = self.document.get(key)
        if not isinstance(value, str) or value not in choices:
            raise self.failure(key, " or ".join(choices))
        return value

    def integers(self, key: str, low: int, high: int, most: int) -> tuple[int, ...]:
        """One integer or a list of up to `most`; none when the key is not given."""
        if not self.has(key):
            return ()
        value = self.document[key]
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > most or not all(type(n) is int and low <= n <= high for n in numbers):
            raise self.failure(key, f"at most {most} integers from {low} to {high}")
        return tuple(numbers)

    def table(self, key: str) -> ObjectReader | None:
        """A reader for the object under a key, or None when it is not given."""
        if not self.has(key):
            return None
        value = self.document[key]
        if not isinstance(value, dict):
            raise self.failure(key, "an object")
        return ObjectReader(value, f"{self.prefix}{key}.")

    def refuse_the_rest(self, passive: Collection[str] = ()) -> None:
        """Refuse every key that holds a value, was not taken, and is not known to change nothing."""
        for key, value in self.document.items():
            if value is not None and key not in self.taken and key not in passive:
                raise ConfigError(
                    f"the key {shown(self.prefix + key)} (= {shown(value)}) is not known to araio; it may "
                    "change what the model computes, so it is refused rather than ignored"
                )
