"""`araio trace show`: what a trace holds, all of it read and checked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from araio.cli.printable import printable
from araio.cli.trace_text import trace_document, trace_lines
from araio.traces import Trace

__all__ = ["EXAMPLES", "command"]

EXAMPLES = ("araio trace show pocket.moetrace", "araio trace show pocket.moetrace --json")


def command(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A folder that `araio trace` has written.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Tell what a trace holds, and whether it is whole."""
    document = trace_document(Trace.open(trace), trace)
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    table = Table(title=Text(printable(str(trace))), title_justify="left", show_header=False)
    for name, text in trace_lines(document):
        table.add_row(name, Text(printable(text)))
    Console().print(table)
