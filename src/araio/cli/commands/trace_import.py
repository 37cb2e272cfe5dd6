"""`araio trace import`: what another program recorded of routes, as a trace."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from araio.cli.progress import note
from araio.cli.trace_text import trace_document
from araio.traces import TraceHeader
from araio.traces.importers import KINDS, import_trace
from araio.weights.locate import locate_config

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio trace import expert_distribution.pt --out r1.moetrace",
    "araio trace import responses.jsonl --model deepseek-r1 --domain math --out math.moetrace",
    "araio trace import results/expert_scores --kind esft --out esft.moetrace",
)


def command(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A file of SGLang, vLLM or Parquet, or a folder of ESFT's.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="X.moetrace", help="The trace to write.")],
    kind: Annotated[
        str | None, typer.Option(help=f"{', '.join(KINDS)}; told from the file if not given.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Whose routes they are: a folder, a config.json or a preset."),
    ] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of all of it; the file's name if not given.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Make a trace of what another program recorded, for `araio lens`."""
    header = None if model is None else TraceHeader.of(locate_config(model), model=model)
    trace = import_trace(source.expanduser(), kind, header=header, domain=domain)
    path = out.expanduser()
    trace.save(path)
    if as_json:
        sys.stdout.write(json.dumps(trace_document(trace, path), ensure_ascii=False) + "\n")
        return
    note(Console(stderr=True), f"{trace.tokens:,} tokens in {path}; next: araio lens {path}")
