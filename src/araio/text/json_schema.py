"""A JSON schema that somebody sent: made into text within limits, and blamed at the right place if it fails.

The schema comes from outside and a native library compiles it, so its size and depth are bounded before
that library sees it. What the library refuses is told with a JSON pointer to the part it refuses. Read
`grammar.py` next for what is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llguidance import LLMatcher, LLParserLimits

from araio.errors import TextError
from araio.text.native_errors import native_errors

__all__ = ["LIMITS", "SchemaLimits", "find_fault", "schema_text"]

# What a schema may cost: less than the library's defaults, since every request may bring one. The fuel of a
# step is about 10 ms of work; a state of the lexer takes 1 to 2 kB.
LIMITS = LLParserLimits(
    initial_lexer_fuel=200_000,
    step_lexer_fuel=200_000,
    max_lexer_states=25_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)

# Between two signs of the JSON: nothing, a space, or a new line with its indentation. JSON allows white space
# without end, and a model that falls into it never comes out.
WHITE_SPACE = r"( |\n {0,40})"

# Where a schema holds other schemas: by name, in a list, or as the value itself.
NAMED_PARTS = ("$defs", "definitions", "properties", "patternProperties")
LISTED_PARTS = ("anyOf", "allOf", "oneOf", "prefixItems")
SINGLE_PARTS = ("items", "additionalProperties")
MOST_TRIES = 50


# What stands beside one of these must hold together with what they hold, as within an allOf. The library
# intersects patterns and multiples then, which no fuel bounds: 20 patterns took 200 s.
INTERSECTIONS = ("$ref", "anyOf", "oneOf")


@dataclass(frozen=True)
class SchemaLimits:
    """How large a schema may be; what exceeds these has been seen to take seconds to compile."""

    size_bytes: int = 64 << 10
    depth: int = 100
    properties: int = 256  # of one object; 1500 took 4 s
    patterns: int = 64
    joint_patterns: int = 2  # in a schema where patterns may have to hold at once
    multiple_of: int = 1000  # the number without its decimal point; 999999 took 37 s
    literal: int = 1000  # characters of a string or name that must come as it is; 60000 took 0.1 s a token


def schema_text(schema: Mapping[str, Any], limits: SchemaLimits | None = None) -> str:
    """The schema as JSON for the library, with our own white space between its signs.

    Raises TextError if it is no JSON object, or larger or deeper than `limits`.
    """
    limits = limits or SchemaLimits()
    if not isinstance(schema, Mapping):
        raise TextError(f"a JSON schema is a {type(schema).__name__}; expected an object")
    depth = _depth(schema, limits.depth + 1)
    if depth > limits.depth:
        raise TextError(f"the JSON schema is nested more than {limits.depth} levels deep; make it flatter")
    try:
        size = len(json.dumps(dict(schema), ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise TextError(f"the JSON schema is not a JSON value: {error}") from error
    if size > limits.size_bytes:
        raise TextError(f"the JSON schema has {size} bytes; at most {limits.size_bytes} are accepted")
    _check_costs(schema, limits)
    return json.dumps({**schema, "x-guidance": {"whitespace_pattern": WHITE_SPACE}})


def find_fault(schema: Mapping[str, Any]) -> str | None:
    """Where and why a schema cannot be compiled: a JSON pointer and the library's reason; None if it can be.

    The place is the innermost part that fails on its own.
    """
    fault = _fault(schema)
    if fault is None:
        return None
    shared = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    pointer, place, tries = "", schema, 0
    while True:
        for step, part in _parts(place):
            tries += 1
            found = _fault({**shared, **part}) if tries < MOST_TRIES else None
            if found is not None:
                pointer, place, fault = pointer + step, part, found
                break
        else:
            return f"{pointer or 'the top level'}: {fault}"


def _check_costs(schema: Mapping[str, Any], limits: SchemaLimits) -> None:
    patterns, multiples, are_joint = 0, 0, False
    for part in _objects(schema):
        longest = max(map(len, _literals(part)), default=0)
        if longest > limits.literal:
            raise TextError(
                f"the JSON schema has a name or a value of {longest} characters that must come as it is; at "
                f"most {limits.literal} are accepted"
            )
        own = "pattern" in part
        many = part.get("patternProperties")
        patterns += own + (len(many) if isinstance(many, Mapping) else 0)
        multiples += "multipleOf" in part
        is_shared = any(keyword in part for keyword in INTERSECTIONS)
        are_joint |= "allOf" in part or (is_shared and ("multipleOf" in part or own))
        properties = part.get("properties")
        if isinstance(properties, Mapping) and len(properties) > limits.properties:
            raise TextError(
                f"an object of the JSON schema has {len(properties)} properties; at most {limits.properties} "
                "are accepted"
            )
        if _digits(part.get("multipleOf")) > limits.multiple_of:
            raise TextError(
                f"multipleOf is {part['multipleOf']} in the JSON schema; without its decimal point it may be "
                f"at most {limits.multiple_of}"
            )
    if are_joint and multiples > 1:
        raise TextError("the JSON schema has several multipleOf that may have to hold together; give one")
    most = limits.joint_patterns if are_joint else limits.patterns
    if patterns > most:
        where = " that may have to hold together (allOf, or beside $ref, anyOf, oneOf)" if are_joint else ""
        raise TextError(f"the JSON schema has {patterns} patterns{where}; at most {most} are accepted")


def _objects(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every object in the schema, whatever it means."""
    return (item for item in _within(schema) if isinstance(item, Mapping))


def _literals(part: Mapping[str, Any]) -> Iterator[str]:
    """What may come only as it is: names of objects, and strings among the values that are listed."""
    yield from map(str, part)
    listed = [part[keyword] for keyword in ("const", "enum") if keyword in part]
    yield from (item for item in _within(listed) if isinstance(item, str))


def _within(value: object) -> Iterator[Any]:
    """A value and all that is in it; its depth has been checked."""
    pending = [value]
    while pending:
        item = pending.pop()
        yield item
        if isinstance(item, Mapping | list | tuple):
            pending += _inside(item)


def _digits(number: object) -> int:
    """A number without its decimal point and the zeros around: 0.25 is 25; what is no number is 0."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return 0
    parts = Decimal(str(number)).normalize().as_tuple()
    assert isinstance(parts.exponent, int)  # JSON has no NaN
    return int("".join(map(str, parts.digits)) + "0" * min(max(parts.exponent, 0), 20))


def _fault(schema: Mapping[str, Any]) -> str | None:
    text = schema_text(schema)
    with native_errors("it cannot be compiled", "make it simpler"):
        failed, messages = LLMatcher.validate_grammar_with_warnings("start: %json " + text, limits=LIMITS)
    if not failed:
        return None
    message = messages[0].split("\n   1 | ")[0]  # behind it comes an excerpt of a grammar nobody wrote
    reason = " ".join(message.split("failed to compile JSON schema: ")[-1].split())
    return reason if len(reason) <= 300 else reason[:300] + "..."


def _parts(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The schemas directly inside a schema, each with the end of its JSON pointer."""
    for keyword in NAMED_PARTS:
        parts = schema.get(keyword)
        for name, part in parts.items() if isinstance(parts, Mapping) else ():
            if isinstance(part, Mapping):
                yield f"/{keyword}/{_escaped(name)}", part
    for keyword in LISTED_PARTS:
        parts = schema.get(keyword)
        for index, part in enumerate(parts) if isinstance(parts, list) else ():
            if isinstance(part, Mapping):
                yield f"/{keyword}/{index}", part
    for keyword in SINGLE_PARTS:
        part = schema.get(keyword)
        if isinstance(part, Mapping):
            yield f"/{keyword}", part


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _depth(value: object, most: int) -> int:
    """Levels of nesting, counted up to `most` without recursion."""
    depth, level = 0, [value]
    while depth < most:
        containers = [item for item in level if isinstance(item, Mapping | list | tuple)]
        if not containers:
            break
        level = [inner for item in containers for inner in _inside(item)]
        depth += 1
    return depth


def _inside(container: Mapping[str, Any] | Sequence[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, Mapping) else container
