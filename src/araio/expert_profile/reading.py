"""`read_parts`: the JSON of a profile to the parts of an `ExpertProfile`, each of its type.

It refuses keys that it does not know, other formats and later versions. Whether the parts fit together is for
`profile.py` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from araio.config import MAX_EXPERTS, MAX_LAYERS
from araio.errors import ConfigError
from araio.expert_profile.habits import read_habits
from araio.expert_profile.profiled_model import ProfiledModel
from araio.json_reader import ObjectReader, shown

__all__ = [
    "FORMAT",
    "VERSION",
    "is_id",
    "read_by_layer",
    "read_model",
    "read_parts",
    "read_table",
    "read_text",
]

FORMAT, VERSION = "araio-profile", 1


def read_parts(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an `ExpertProfile`; raises ConfigError, naming the key."""
    reader = ObjectReader(document)
    reader.choice("format", (FORMAT,))
    reader.integer("version", VERSION, VERSION)
    parts = {
        "name": read_text(reader, "name"),
        "model": read_model(reader),
        "keep": read_by_layer(reader, "keep", is_id) or {},
        "mtp": _numbers("mtp", document["mtp"], is_id) if reader.has("mtp") else None,
        "method": read_table(reader, "method") or {},
        "calibration": read_table(reader, "calibration") or {},
        "scores": read_by_layer(reader, "scores", _is_number),
        "evaluation": read_table(reader, "evaluation"),
        "habits": read_habits(reader, "habits"),
    }
    reader.refuse_the_rest()
    return parts


def read_model(reader: ObjectReader) -> ProfiledModel:
    """The model under the key "model"; raises ConfigError, naming the key."""
    table = reader.table("model")
    if table is None:
        raise reader.failure("model", "an object")
    count = table.integer("n_routed_experts", 1, MAX_EXPERTS)
    groups = table.integer("n_group", 1, MAX_EXPERTS)
    if count % groups:
        raise table.failure("n_group", f"a divisor of n_routed_experts = {count}")
    model = ProfiledModel(
        name=read_text(table, "name"),
        fingerprint=read_text(table, "fingerprint"),
        n_routed_experts=count,
        num_experts_per_tok=table.integer("num_experts_per_tok", 1, MAX_EXPERTS),
        n_group=groups,
        topk_group=table.integer("topk_group", 1, MAX_EXPERTS),
        layers=table.integers("layers", 0, MAX_LAYERS, most=MAX_LAYERS),
    )
    table.refuse_the_rest()
    return model


def read_by_layer(
    reader: ObjectReader, key: str, is_entry: Callable[[Any], bool]
) -> dict[int, tuple[Any, ...]] | None:
    """Lists by layer, whose numbers are keys of JSON and so texts; None where there is no such key."""
    table = reader.table(key)
    if table is None:
        return None
    found = {}
    for layer, values in table.document.items():
        if not re.fullmatch(r"0|[1-9][0-9]{0,3}", layer):
            raise ConfigError(f"{key} has the key {shown(layer)}; expected numbers of layers")
        found[int(layer)] = _numbers(f"{key}.{layer}", values, is_entry)
    return found


def _numbers(where: str, values: Any, is_entry: Callable[[Any], bool]) -> tuple[Any, ...]:
    if not isinstance(values, list) or not all(map(is_entry, values)):
        raise ConfigError(f"{where} is {shown(values)}; expected a list of numbers")
    return tuple(values)


def is_id(value: Any) -> bool:
    """Whether a value of a list can be an expert's number."""
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def read_text(reader: ObjectReader, key: str) -> str:
    """A text that must be there."""
    value = reader.document.get(key)
    if not reader.has(key) or not isinstance(value, str):
        raise reader.failure(key, "a text")
    return value


def read_table(reader: ObjectReader, key: str) -> Mapping[str, Any] | None:
    """An object as it is, if it is there."""
    table = reader.table(key)
    return None if table is None else table.document
