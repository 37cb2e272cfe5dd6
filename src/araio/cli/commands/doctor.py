"""`araio doctor`: what this machine offers, which kernels serve and why, and what to do about the rest."""

from __future__ import annotations

import json
import platform
import sys
from typing import Annotated, Any

import psutil
import typer

import araio
from araio.cli.numbers import bytes_text
from araio.disk.select import serving
from araio.errors import AraioError
from araio.kernels.select import select
from araio.meters.meter import choose_meter
from araio.testing.machine import describe_processor
from araio.weights.load import open_checked
from araio.weights.locate import BUNDLED, locate

__all__ = ["EXAMPLES", "command"]

EXAMPLES = ("araio doctor", "araio doctor --json", "ARAIO_KERNELS=reference araio doctor")


def command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Tell what this machine offers: processor, memory, kernels and meters with their reasons, models."""
    findings = _findings()
    sys.stdout.write(json.dumps(findings, ensure_ascii=False) + "\n" if as_json else _text(findings))


def _findings() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "araio": araio.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": describe_processor(),
        "memory": {"total_bytes": memory.total, "available_bytes": memory.available},
        "kernels": _kernels(),
        "disk": serving(),
        "energy": _energy(),
        "models": {name: _model(name) for name in BUNDLED},
    }


def _kernels() -> dict[str, Any]:
    try:
        reasons = select().reasons
    except AraioError as error:
        return {"error": str(error), "operations": {}}
    operations = {
        name: {"backend": choice.backend, "reason": choice.reason} for name, choice in reasons.items()
    }
    return {"error": None, "operations": operations}


def _energy() -> dict[str, Any]:
    """How joules come about on this machine, GPUs included."""
    try:
        meter = choose_meter(gpus=True)
    except AraioError as error:
        return {"error": str(error), "method": None, "reasons": []}
    return {"error": None, "method": meter.method, "reasons": list(meter.reasons)}


def _model(name: str) -> dict[str, Any]:
    try:
        folder = locate(name)
        with open_checked(folder):
            pass
    except AraioError as error:
        return {"is_usable": False, "bytes": 0, "note": str(error)}
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return {"is_usable": True, "bytes": size, "note": str(folder)}


def _text(findings: dict[str, Any]) -> str:
    cpu, memory, kernels = findings["cpu"], findings["memory"], findings["kernels"]
    rows = [
        ("araio", findings["araio"]),
        ("Python", f"{findings['python']} on {findings['platform']}"),
        ("CPU", f"{cpu['name']}, {cpu['cores_usable']} of {cpu['cores_total']} cores usable"),
        ("vectors", " ".join(cpu["vector_instructions"]) or "none that kernels are compiled for"),
        ("memory", f"{bytes_text(memory['available_bytes'])} free of {bytes_text(memory['total_bytes'])}"),
    ]
    if kernels["error"]:
        rows.append(("kernels", kernels["error"]))
    rows += _kernel_rows(kernels["operations"])
    rows.append(("disk", f"read by {findings['disk']}"))
    energy = findings["energy"]
    rows += [("energy", line) for line in [energy["error"] or f"by {energy['method']}", *energy["reasons"]]]
    for name, model in findings["models"].items():
        size = f"{bytes_text(model['bytes'])} in " if model["is_usable"] else "not usable: "
        rows.append((name, size + model["note"]))
    return "".join(f"{label:<10}{value}\n" for label, value in rows)


def _kernel_rows(operations: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    """One row for each backend and reason, listing the operations that share them."""
    shared: dict[tuple[str, str], list[str]] = {}
    for name, choice in operations.items():
        shared.setdefault((choice["backend"], choice["reason"]), []).append(name)
    return [
        ("kernels", f"{backend}: {', '.join(names)} ({reason})")
        for (backend, reason), names in shared.items()
    ]
