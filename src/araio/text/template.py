"""`render_in_sandbox`: a chat template that araio does not know, run where it can do no harm.

A template comes with a download and is a program. It runs in Jinja's sandbox, in a process of its own that
has no environment, may neither write files nor start processes, and is killed when it exceeds its `Limits`.
The child's side is `template_worker.py`. Costs about 0.1 s a call, which only unknown templates pay.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from araio.errors import TemplateError, TextError

__all__ = ["Limits", "render_in_sandbox"]

ADVICE = "if you trust the model, write its prompt yourself and use a plain completion"


@dataclass(frozen=True)
class Limits:
    """What a template may use; the defaults leave room for a prompt of a million tokens."""

    template_chars: int = 256 << 10
    output_chars: int = 8 << 20
    memory_bytes: int = 768 << 20
    seconds: float = 10.0


def render_in_sandbox(template: str, variables: Mapping[str, Any], limits: Limits | None = None) -> str:
    """The template's output for `variables`, which must be JSON values.

    Offers what transformers offers: `raise_exception`, `strftime_now`, `tojson` without HTML escapes, `break`
    and `continue`, blocks trimmed. Raises TemplateError if the template fails or exceeds a limit, TextError
    if the variables are not JSON values.
    """
    limits = limits or Limits()
    if len(template) > limits.template_chars:
        raise TemplateError(
            f"the chat template has {len(template)} characters, at most {limits.template_chars} are run; "
            + ADVICE
        )
    try:
        job = json.dumps({"template": template, "variables": variables, "output_chars": limits.output_chars})
    except (TypeError, ValueError, RecursionError) as error:
        raise TextError(f"the messages are not JSON values: {error}") from error
    reply = _run_worker(job, limits)
    if "error" in reply:
        raise TemplateError(f"the chat template failed: {reply['error']}; {ADVICE}")
    return str(reply["text"])


def _run_worker(job: str, limits: Limits) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "araio.text.template_worker"]
    command += [str(limits.memory_bytes), str(math.ceil(limits.seconds))]
    try:
        worker = subprocess.run(  # noqa: S603 - our own interpreter and module, no shell
            command,
            input=job.encode(),
            capture_output=True,
            timeout=limits.seconds,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TemplateError(
            f"the chat template ran longer than {limits.seconds:g} s and was stopped; {ADVICE}"
        ) from error
    try:
        reply: dict[str, Any] = json.loads(worker.stdout)
    except ValueError as error:
        raise TemplateError(
            f"the chat template's process died with status {worker.returncode}, most likely at its limit of "
            f"{limits.memory_bytes >> 20} MiB; {ADVICE}"
        ) from error
    return reply


def _environment() -> dict[str, str]:
    """Nothing of ours but what the interpreter needs to start, and the time zone for `strftime_now`."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
