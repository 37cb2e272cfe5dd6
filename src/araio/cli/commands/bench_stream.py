"""`araio bench stream`: what a model larger than its memory does with its experts, and at best could."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from araio import env
from araio.cli.progress import note, progress_bar
from araio.cli.stream_table import stream_screen
from araio.eval.streaming import PROMPT, TOKENS, StreamReport, measure_streaming
from araio.quantities import parse_bytes

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio bench stream ~/models/r1-q4 --ram 32GiB",
    "araio bench stream ~/models/lite-q4 --ram 4GiB --tokens 256 --plot stream.png",
    "araio bench stream ~/models/lite-q4 --ram 4GiB --io buffered --json",
)


def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="`pocket`, the default, or a folder.", show_default=False),
    ] = None,
    ram: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory for the model, as in 6GiB; what the machine can spare if not given. For comparison "
            "the model is also loaded as a whole, where the machine has room for it.",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(metavar="N", help="To decode.")] = TOKENS,
    prompt: Annotated[int, typer.Option(metavar="N", help="Tokens of the prompt before them.")] = PROMPT,
    io: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Read experts: auto, direct, uring, buffered; see `ARAIO_IO`."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Processors to compute on; every one if not given.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the misses of every token and layer: PNG, PDF or SVG."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Measure a model whose experts come from disk: speed, hits, misses, and how near they are to the best.

    The model writes on from a text of its own, and begins with no expert in memory. The limits are the disk,
    read at random between the rounds, and the fewest reads that any choice of what to keep could do with.
    """
    size = env.get("ARAIO_RAM") if ram is None else ram
    with progress_bar() as progress:
        bar = progress.add_task("loading", total=None)
        report = measure_streaming(
            model or env.get("ARAIO_MODEL"),
            ram=None
            if size == "auto" and ram is None
            else parse_bytes("ARAIO_RAM" if ram is None else "--ram", size),
            tokens=tokens,
            prompt=prompt,
            io=env.get("ARAIO_IO") if io is None else io,
            threads=threads,
            on_turn=lambda what, done, total: progress.update(
                bar, description=what, completed=done, total=total
            ),
        )
    _warn(report)
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict(), ensure_ascii=False) + "\n")
    else:
        Console(highlight=False).print(stream_screen(report))
    if plot is not None:
        from araio.cli.stream_plot import draw_stream

        # Last, so that a picture that cannot be written costs no figure.
        draw_stream(report, plot)


def _warn(report: StreamReport) -> None:
    if report.lent:
        note(
            Console(stderr=True),
            f"warning: others on this machine needed memory, so {report.lent:,} of {report.budget.slots:,} "
            "places for experts were given up; close what else runs here, or give less --ram",
        )
