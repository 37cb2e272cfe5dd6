"""A table of a recipe to a dataclass: unknown, missing and mistyped keys are refused by name.

Read `recipe.py` for the whole, `stages.py` for what a stage may say.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from araio.errors import RecipeError

__all__ = ["build", "is_share", "require"]

Table = TypeVar("Table")


def is_share(value: object) -> bool:
    """Whether a value that came out of TOML is a number of at least 0; `true` and NaN are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def require(condition: bool, key: str, value: Any, expected: str) -> None:
    """Raise RecipeError unless the value of a key is as expected."""
    if not condition:
        raise RecipeError(f"{key} is {value!r}; expected {expected}")


TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "str | None": (str,),
    "float | None": (int, float),
    "int | None": (int,),
    "bool": (bool,),
    "Mapping[str, float]": (dict,),
    "Sequence[int] | None": (list,),
    "Sequence[float]": (list,),
}


def build(kind: type[Table], values: Any, where: str) -> Table:
    """An instance of a recipe dataclass from a TOML table: unknown, missing and mistyped keys are refused."""
    prefix = f"{where}." if where else ""
    require(isinstance(values, dict), where, values, "a table")
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            raise RecipeError(f"{prefix}{key} is not a key of a recipe; known here: {', '.join(known)}")
        types = TYPES.get(str(known[key].type))
        if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            raise RecipeError(
                f"{prefix}{key} is {value!r}; expected {' or '.join(t.__name__ for t in types)}"
            )
    for key, entry in known.items():
        if key not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise RecipeError(f"{prefix}{key} is missing")
    return kind(**values)
