"""`validation_error`: what pydantic finds wrong with a body or a query, in the words of every other error.

What was found, what was expected, and which field it is, as somebody would write it who sees the document
that was sent and knows nothing of the program that reads it. Read `errors.py` for the shape of an error,
`schema.py` for the fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from araio.json_reader import shown
from araio.serve.errors import ApiError, invalid

__all__ = ["validation_error"]

EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge} or more",
    "int_type": "an integer",
    "less_than_equal": "{le} or less",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "text of at most {max_length} characters",
    "string_too_short": "text of {min_length} or more characters",
    "string_type": "a string",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "union_tag_invalid": "an object of type {expected_tags}",
    "union_tag_not_found": "an object with a {discriminator}",
}
"""By pydantic's name of a mistake, what it could have been instead; others keep pydantic's own words."""

KEY = "[key]"


def validation_error(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """What is wrong with a body or a query that is not what the schema says.

    body  the document that was sent
    """
    if not errors:
        return invalid("the request is malformed", None)
    # A value that fits no form of a union is complained of once for each form: a range that was missed tells
    # more than a type, and what lies deepest got furthest.
    worst = max(errors, key=lambda entry: (not entry["type"].endswith("_type"), len(entry["loc"])))
    source, *place = worst["loc"]
    if worst["type"] == "missing":
        path = ".".join(filter(None, (_path(place[:-1], body), *map(str, place[-1:]))))
        return invalid(f"{path or 'the body'} is missing", path or None, "missing")
    is_key = place[-1:] == [KEY]
    if is_key:  # it is the object's fault, and as long as it likes
        place = place[:-2]
    path = _path(place, body) if source == "body" else ".".join(map(str, place))
    return invalid(_message(path or "the body", worst, is_key=is_key), path or None)


def _message(path: str, error: Mapping[str, Any], *, is_key: bool) -> str:
    if (form := EXPECTED.get(error["type"])) is None:
        return f"{path}: {str(error['msg']).removeprefix('Value error, ')}"
    found = f"has the key {shown(error['input'])}" if is_key else f"is {shown(error['input'])}"
    return f"{path} {found}; expected {form.format(**error.get('ctx') or {})}"


def _path(place: Sequence[Any], document: Any) -> str:
    """A field in a document; what names a form of a union on the way, and so no field, is left out."""
    path = ""
    for part in place:
        if isinstance(document, list) and isinstance(part, int):
            path += f"[{part}]"
        elif isinstance(document, dict) and part in document and str(part).isidentifier():
            path += f".{part}"
        else:
            continue
        document = document[part]
    return path.removeprefix(".")
