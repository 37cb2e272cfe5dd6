"""What the schemas of Responses and Messages share: fields of two forms, and limits that both hold.

A field that may be one thing or another is told apart by a look, so that an error is about what was meant;
pydantic would try every form and report what each of them misses. Read `schema.py` for what all routes share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from araio.serve.errors import check_count, invalid
from araio.serve.schema import no_more_than
from araio.serve.settings import Settings

__all__ = ["check_room", "check_schemas", "check_stop", "tag_of", "text_or_list"]


def text_or_list(value: Any) -> str:
    """Tag of a field that is a string, or else a list of parts."""
    return "str" if isinstance(value, str) else "list"


def tag_of(default: str) -> Callable[[Any], str]:
    """Tags an object by its `type`, and whatever has none by a default."""

    def tag(value: Any) -> str:
        found = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
        return found if isinstance(found, str) else default

    return tag


def check_room(param: str, wanted: int | None, context: int) -> None:
    """Refuse an answer that is longer than what there is room for.

    Raises:
        ApiError: 400 with `param`.
    """
    if (wanted or 0) > context:
        raise invalid(f"{param} is {wanted}; {no_more_than(context)}", param)


def check_schemas(schemas: Mapping[str, Mapping[str, Any] | None], settings: Settings) -> None:
    """Refuse JSON schemas, by the field that they stand in, that are longer than the server allows.

    Raises:
        ApiError: 400 with the field.
    """
    for param, schema in schemas.items():
        check_count(param, len(json.dumps(schema)), settings.schema_bytes, "schema_bytes")


def check_stop(param: str, stop: Sequence[str], settings: Settings) -> None:
    """Refuse more stop strings, or longer ones, than the server allows.

    Raises:
        ApiError: 400 with `param`.
    """
    check_count(param, len(stop), settings.stop, "stop")
    check_count(param, max(map(len, stop), default=0), settings.stop_characters, "stop_characters")
