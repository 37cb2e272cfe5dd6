"""`araio trace export`: a trace as other programs read it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from araio.cli.numbers import bytes_text
from araio.cli.progress import note
from araio.errors import RequestError
from araio.traces import Trace
from araio.traces.exporters import EXPORTERS, export_trace

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio trace export pocket.moetrace --to parquet pocket.parquet",
    "araio trace export pocket.moetrace --to eplb weight.npy",
    "araio trace export pocket.moetrace --to sglang logical_count.json",
)


def command(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A folder that `araio trace` has written.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    to: Annotated[str, typer.Option("--to", help=f"{', '.join(EXPORTERS)}: weights, all rows, or counts.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Write a trace for EPLB, for SGLang, or for whatever reads Parquet."""
    path = out.expanduser()
    if path.exists() and not force:
        raise RequestError(f"{path}: exists already; give --force to replace it, or another name")
    export_trace(Trace.open(trace), path, to)
    if as_json:
        sys.stdout.write(json.dumps({"file": str(path), "kind": to, "bytes": path.stat().st_size}) + "\n")
        return
    note(Console(stderr=True), f"wrote {path}, {bytes_text(path.stat().st_size)}")
