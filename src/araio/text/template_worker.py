"""The process in which an unknown chat template runs; started by `template.py`, never imported by it.

Arguments: bytes of memory, seconds of processor time (the parent kills it earlier; this holds should the
parent itself be gone). Reads one JSON job from stdin and writes one JSON reply to stdout: `{"text": ...}` or
`{"error": ...}`.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_ERROR_CHARS = 300


def main() -> None:
    """Limit this process, then do the job."""
    memory_bytes, seconds = (int(argument) for argument in sys.argv[1:])
    limit_process(memory_bytes, seconds)
    json.dump(run(json.load(sys.stdin)), sys.stdout)


def limit_process(memory_bytes: int, seconds: int) -> None:
    """Give up memory, processor time, files and children; cannot be undone."""
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def run(job: dict[str, Any]) -> dict[str, str]:
    """Render the job's template; every way in which a template can fail becomes the reply's error."""
    try:
        return {"text": render(job["template"], job["variables"], job["output_chars"])}
    except MemoryError:
        return {"error": "it needs more memory than it may use"}
    except RecursionError:
        return {"error": "it calls itself without end, or is nested too deeply"}
    except Exception as error:  # noqa: BLE001 - a template may raise anything
        return {"error": f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]}


def render(template: str, variables: dict[str, Any], output_chars: int) -> str:
    """The template's output; raises OverflowError beyond `output_chars`, and whatever the template raises."""
    pieces: list[str] = []
    remaining = output_chars
    for piece in environment().from_string(template).generate(variables):
        remaining -= len(piece)
        if remaining < 0:
            raise OverflowError(f"its output is longer than {output_chars} characters")
        pieces.append(piece)
    return "".join(pieces)


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja as `transformers.apply_chat_template` sets it up."""
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def raise_exception(message: str) -> None:
    """Lets a template refuse a conversation."""
    raise jinja2.TemplateError(message)


def to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON text without the HTML escapes of Jinja's own filter."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def strftime_now(pattern: str) -> str:
    """The local time now, as some templates put it into their system prompt."""
    return datetime.now().strftime(pattern)


if __name__ == "__main__":
    main()
