"""`araio eval --needle`: what a model finds in a long text, by length and depth."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from araio.api import Model
from araio.cli.out_file import check_out
from araio.cli.printable import printable
from araio.cli.progress import progress_bar
from araio.errors import RequestError
from araio.eval.haystack import HAYSTACKS, HaystackKind
from araio.eval.needle import Asked, NeedleReport, NeedleSettings, measure_needles, prefill_cost

__all__ = ["DEPTHS", "PER_CELL", "check_paths", "find_needles", "parse_lengths", "settings_for"]

DEPTHS, PER_CELL = 11, 4
KIBI = 1024


def parse_lengths(text: str) -> tuple[int, ...]:
    """Lengths of `1k..128k`, doubling from the first to the last, or of one like `32k`; a k is 1,024 tokens.

    Raises RequestError for any other form, and for a last one below the first.
    """
    found = re.fullmatch(r"(\d{1,9})(k?)(?:\.\.(\d{1,9})(k?))?", text.strip().lower())
    if found is None:
        raise RequestError(f"--needle is {text!r}; expected lengths as in 1k..128k, or one as in 32k")
    first = int(found[1]) * (KIBI if found[2] else 1)
    last = first if found[3] is None else int(found[3]) * (KIBI if found[4] else 1)
    if not 1 <= first <= last:
        raise RequestError(f"--needle is {text!r}; expected the shorter length first, and above 0")
    lengths = [first]
    while lengths[-1] * 2 <= last:
        lengths.append(lengths[-1] * 2)
    return tuple(lengths)


def settings_for(lengths: str, depths: int, n: int | None, haystack: str, seed: int) -> NeedleSettings:
    """What is asked for, checked as far as that goes without a model."""
    if haystack not in HAYSTACKS:
        raise RequestError(f"--haystack is {haystack!r}; expected one of {', '.join(HAYSTACKS)}")
    kind: HaystackKind = HAYSTACKS[HAYSTACKS.index(haystack)]
    return NeedleSettings(parse_lengths(lengths), depths, PER_CELL if n is None else n, kind, seed)


def check_paths(plot: Path | None, answers: Path | None) -> Path | None:
    """Where answers are kept: where that was asked for, or else beside the picture."""
    check_out(plot, "--plot")
    check_out(answers, "--answers")
    if answers is None and plot is not None:
        answers = plot.with_name(plot.name + ".jsonl")
    return answers


def find_needles(
    model: Model, settings: NeedleSettings, answers: Path | None, plot: Path | None, as_json: bool
) -> None:
    """Ask, print the table or one JSON document, and draw the picture."""
    settings.check(model.config.max_position_embeddings)
    total = sum(prefill_cost(0, length) for length in settings.lengths)
    counts: dict[int, list[bool]] = {}
    with progress_bar() as progress:
        # The bar counts the work of reading, which grows faster than the text; so does the time left.
        bar = progress.add_task("reading", total=round(total))

        def on_asked(asked: Asked) -> None:
            found = counts.setdefault(asked.length, [])
            found.append(asked.is_correct)
            share = sum(found) / len(found)
            progress.update(bar, description=f"{asked.length:,} tokens: {share:.0%} of {len(found)} found")

        report = measure_needles(
            model,
            settings,
            answers=answers,
            on_work=lambda cost: progress.advance(bar, cost),
            on_asked=on_asked,
        )
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict(), ensure_ascii=False) + "\n")
    else:
        Console().print(needle_table(report))
    if plot is not None:
        from araio.cli.needle_plot import draw_needles

        # Last, so that a picture that cannot be written costs no figure.
        draw_needles(report, plot)


def needle_table(report: NeedleReport) -> Table:
    """A line for each length."""
    settings = report.settings
    title = (
        f"{report.model}, haystacks of {settings.haystack}, {settings.depths} depths, seed {settings.seed}"
    )
    table = Table(title=Text(printable(title)), title_justify="left")
    for heading in ("length", "prompt", "computed once", "n", "found", "95 % interval", "worst depth"):
        table.add_column(heading, justify="right")
    for entry in report.to_dict()["lengths"]:
        low, high = entry["ci95"]
        worst = min(entry["depths"], key=lambda cell: cell["accuracy"])
        once = entry["prompt_tokens"] / entry["computed_tokens"]
        table.add_row(
            f"{entry['length']:,}",
            f"{entry['prompt_tokens']:,}",
            f"{once:.0%}",
            str(entry["n"]),
            f"{entry['accuracy']:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{worst['accuracy']:.0%} at {worst['depth']:.0%}",
        )
    return table
