"""`araio bench`: how fast a model runs on this machine, and how near that is to what its memory allows."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from araio import env
from araio.cli.numbers import bytes_text, speed_text
from araio.cli.printable import printable
from araio.cli.progress import note, progress_bar
from araio.costs.receipt import MODELLED
from araio.costs.receipt_text import quantity_text
from araio.errors import RequestError
from araio.eval.speed import PREFILLS, SpeedReport, measure_speed
from araio.testing.turns import Row

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio bench",
    "araio bench ~/models/lite-q4 --threads 1,2",
    "araio bench ~/models/lite-q4 --context 32768,131072 --rounds 3",
    "araio bench ~/models/DeepSeek-V2-Lite --prefill 2048 --together 8,16 --json",
    "araio bench stream ~/models/r1-q4 --ram 32GiB     a model larger than memory",
)


def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="`pocket`, the default, or a folder.", show_default=False),
    ] = None,
    prefill: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS",
            help=f"Lengths of prompts, comma-separated; {', '.join(map(str, PREFILLS))} if not given, or "
            "what the model's context holds.",
        ),
    ] = None,
    together: Annotated[
        str, typer.Option(metavar="SEQUENCES", help="How many sequences to decode side by side.")
    ] = "8",
    context: Annotated[
        str | None,
        typer.Option(metavar="TOKENS", help="Decode after so many cached tokens too, which are made up."),
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="THREADS", help="Numbers of threads, each measured; every processor if not given."
        ),
    ] = None,
    country: Annotated[
        str | None, typer.Option(help="Whose electricity: a code such as DEU, a name, or grams per kWh.")
    ] = None,
    tdp: Annotated[
        float | None, typer.Option(help="Watts of the processors at full load, for the energy model.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds that count; one before them warms up.")] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Measure a model's speed: prompts, decoding, decoding several sequences together.

    Speeds are medians of the rounds. Decoding has a limit: the speed of reading memory, measured in the same
    rounds, over the bytes that a token reads. Joules are counted where the machine can, and modelled, with a
    range of a factor of two, where it cannot. A model whose experts are on disk is measured by `araio bench
    stream`.
    """
    name = model or env.get("ARAIO_MODEL")
    with progress_bar() as progress:
        bar = progress.add_task("loading", total=None)
        report = measure_speed(
            name,
            prefills=_numbers("--prefill", prefill),
            together=_numbers("--together", together) or (),
            contexts=_numbers("--context", context) or (),
            threads=_numbers("--threads", threads),
            rounds=rounds,
            country=country,
            tdp=tdp,
            on_turn=lambda what, done, total: progress.update(
                bar, description=what, completed=done, total=total
            ),
        )
    if report.warning is not None:
        note(Console(stderr=True), f"warning: {report.warning}")
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict(), ensure_ascii=False) + "\n")
        return
    console = Console()
    console.print(_table(report))
    for remark in (*report.notes, *report.energy):
        console.print(Text(remark))


def _numbers(option: str, text: str | None) -> list[int] | None:
    """Numbers between commas, each once."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    for word in words:
        # Nothing that anyone means has more digits, and Python refuses to read thousands of them.
        if not (word.isdecimal() and len(word) <= 9):
            raise RequestError(f"{option} is {text!r}; expected numbers with commas between them, as in 1,2")
    return list(dict.fromkeys(map(int, words)))


def _table(report: SpeedReport) -> Table:
    machine = report.machine
    stored = ", ".join(f"{name} {bytes_text(size)}" for name, size in report.codecs.items())
    title = (
        f"{report.model} on {machine['name']}, {machine['cores_usable']} cores, {report.kernels} kernels\n"
        f"a token reads {bytes_text(report.active_weight_bytes)} of weights: {stored}"
    )
    table = Table(title=Text(printable(title)), title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    headings = ("median", "range", "limit", "of it", "a token")
    rows = [(row.name, (*_cells(row), _energy(row))) for row in report.rows]
    # A column with nothing in it would only push the names onto two lines.
    shown = [column for column in range(len(headings)) if any(cells[column] for _, cells in rows)]
    for column in shown:
        table.add_column(headings[column], justify="right")
    for name, cells in rows:
        table.add_row(name, *(cells[column] for column in shown))
    return table


def _cells(row: Row) -> tuple[str, str, str, str]:
    if row.unit == "bytes/s":
        spread = f"{row.low / 1e9:.1f} to {row.high / 1e9:.1f}"
        return f"{row.value / 1e9:.1f} GB/s", spread, "", ""
    spread = f"{speed_text(row.low)} to {speed_text(row.high)}"
    if row.limit is None or row.fraction_of_limit is None:
        return f"{speed_text(row.value)} {row.unit}", spread, "", ""
    limit, share = speed_text(row.limit), f"{row.fraction_of_limit:.0%}"
    return f"{speed_text(row.value)} {row.unit}", spread, limit, share


def _energy(row: Row) -> str:
    """Joules of a token; `~` where nothing was measured."""
    if row.joules_per_token is None or row.joules_method is None:
        return ""
    mark = "~" if row.joules_method.startswith(MODELLED) else ""
    return mark + quantity_text(row.joules_per_token, "J")
