"""`araio eval`: accuracy by task, or the distance to another model, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from araio import env
from araio.api import Model, load
from araio.cli.commands.eval_needle import DEPTHS, PER_CELL, check_paths, find_needles, settings_for
from araio.cli.ctrl_c import ctrl_c
from araio.cli.load_options import AdapterFolder
from araio.cli.picture import check_picture
from araio.cli.printable import printable
from araio.cli.progress import progress_bar
from araio.cli.thinking_plot import draw_sweep
from araio.cli.thinking_table import sweep_tables
from araio.errors import RequestError
from araio.eval.accuracy import (
    DEFAULT_MAX_TOKENS,
    Graded,
    HeldOut,
    Report,
    Score,
    check_counts,
    evaluate,
    task_names,
)
from araio.eval.divergence import Divergence, divergence, task_sequences, text_sequences
from araio.eval.thinking import steps_of_sweep, sweep
from araio.train.tasks import TASKS

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio eval pocket",
    "araio eval pocket --tasks chain,order --n 200 --json",
    "araio eval ~/models/mine --split beyond --workers 2",
    "araio eval ~/models/mine-q4 --kl ~/models/mine --text book.txt",
    "araio eval pocket --approximate top-2 --kl pocket",
    "araio eval pocket --tasks countdown,knights --budgets 32,64,128 --votes 1,4,16 --plot thinking.png",
    "araio eval pocket --needle 1k..128k --plot needle.png",
)


QUESTIONS = 100


def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="`pocket`, the default, or a folder.", show_default=False),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help=f"Comma-separated; all of them: {', '.join(TASKS)}.")
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            help=f"Questions per task, {QUESTIONS} if not given; with --needle, {PER_CELL} per length and "
            "depth.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed asks the same questions.")] = 0,
    split: Annotated[
        HeldOut,
        typer.Option(
            help="test: never trained on; beyond: also outside the trained ranges; beyond-test: the part of "
            "it that is never tuned on."
        ),
    ] = "test",
    max_tokens: Annotated[
        int, typer.Option(help="An answer longer than this counts as wrong.")
    ] = DEFAULT_MAX_TOKENS,
    workers: Annotated[int, typer.Option(help="Processes, each with its own copy of the model.")] = 1,
    kl: Annotated[
        str | None,
        typer.Option(
            metavar="REFERENCE",
            help="Instead: how far MODEL's next-token distribution is from this model's, in nats.",
        ),
    ] = None,
    approximate: Annotated[
        str | None,
        typer.Option(
            metavar="HOW", help="Measure MODEL with an approximation: top-N or cached, as in `run`."
        ),
    ] = None,
    adapter: AdapterFolder = None,
    text: Annotated[
        Path | None,
        typer.Option(help="With --kl: a UTF-8 text to compare on, in place of the tasks' questions."),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS,...", help="Instead: accuracy against budgets of thinking, as in 32,64,128."
        ),
    ] = None,
    votes: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Instead, or beside: accuracy against votes, as in 1,4,16."),
    ] = None,
    needle: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTHS",
            help="Instead: hide lines in texts of these lengths, as in 1k..128k, and count those it finds.",
        ),
    ] = None,
    depths: Annotated[
        int, typer.Option(help="With --needle: places of a needle, from the first line to the last.")
    ] = DEPTHS,
    haystack: Annotated[
        str,
        typer.Option(
            help="With --needle: list, where all lines look like the needle, or stories, where none does."
        ),
    ] = "list",
    answers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --needle: keep answers here as they come, and go on from them; beside the picture if "
            "not given.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --budgets, --votes or --needle: draw the picture: PNG, PDF or SVG."
        ),
    ] = None,
    levels: Annotated[
        bool, typer.Option("--levels", help="Show the levels of each task too; --json always has them.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Measure a model's accuracy by task, greedily decoded, with 95 % confidence intervals."""
    if needle is not None:
        settings = settings_for(needle, depths, n, haystack, seed)
        answers = check_paths(plot, answers)
        # Drafts would need latents of their own in the cache, and the text would be read twice.
        asked = load(
            model or env.get("ARAIO_MODEL"), approximate=approximate, adapter=adapter, speculate="off"
        )
        find_needles(asked, settings, answers, plot, as_json)
        return
    n = QUESTIONS if n is None else n
    names = task_names(None if tasks is None else [name.strip() for name in tasks.split(",")])
    if text is not None and kl is None:
        raise RequestError("--text is what --kl compares on; give --kl REFERENCE too")
    check_counts(n=n, workers=workers, max_tokens=max_tokens)
    swept = _integers("--budgets", budgets), _integers("--votes", votes)
    if plot is not None and not any(swept):
        raise RequestError("--plot draws --budgets, --votes or --needle; give one of them too")
    if any(swept) and (kl is not None or workers > 1):
        raise RequestError("--budgets and --votes go with neither --kl nor --workers; leave those out")
    check_picture(plot)
    if kl is not None and approximate == "cached":
        raise RequestError(
            "cached changes decoded tokens alone, and --kl reads prompts; `araio run` measures it"
        )
    loaded = load(model or env.get("ARAIO_MODEL"), approximate=approximate, adapter=adapter)
    if kl is not None:
        compared = _compared(loaded, load(kl), names, n, seed, text)
        _print_divergence(compared, as_json)
        return
    if any(swept):
        _sweep(loaded, names, n, seed, split, swept, max_tokens, plot, as_json=as_json)
        return
    with progress_bar() as progress:
        on_graded = _advance(progress, names, n)
        report = evaluate(
            loaded, names, n, seed, split, max_tokens=max_tokens, workers=workers, on_graded=on_graded
        )
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict(), ensure_ascii=False) + "\n")
    else:
        Console().print(_table(report, levels))


def _integers(option: str, text: str | None) -> list[int]:
    """Numbers with commas between them."""
    try:
        return [] if text is None else [int(entry) for entry in text.split(",")]
    except ValueError:
        raise RequestError(f"{option} is {text!r}; expected numbers with commas, as in 1,4,16") from None


def _sweep(
    model: Model,
    names: list[str],
    n: int,
    seed: int,
    split: HeldOut,
    settings: tuple[list[int], list[int]],
    max_tokens: int,
    plot: Path | None,
    *,
    as_json: bool,
) -> None:
    budgets, votes = settings
    with progress_bar() as progress:
        bar = progress.add_task("answering", total=steps_of_sweep(len(names), n, budgets, votes))

        def on_answer() -> None:
            ctrl_c.check()
            progress.advance(bar)

        found = sweep(
            model,
            names,
            n,
            seed,
            split,
            budgets=budgets,
            votes=votes,
            max_tokens=max_tokens,
            on_answer=on_answer,
        )
    if plot is not None:
        draw_sweep(found, plot)
    if as_json:
        sys.stdout.write(json.dumps(found.to_dict(), ensure_ascii=False) + "\n")
    else:
        Console().print(sweep_tables(found))


def _compared(
    model: Model, reference: Model, names: list[str], n: int, seed: int, text: Path | None
) -> Divergence:
    if text is None:
        sequences = task_sequences(reference, names, n, seed)
    else:
        sequences = text_sequences(reference, _read_text(text))
    with progress_bar() as progress:
        bar = progress.add_task("comparing", total=len(sequences))
        return divergence(model, reference, sequences, lambda: progress.advance(bar))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None


def _print_divergence(compared: Divergence, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(compared.to_dict(), ensure_ascii=False) + "\n")
        return
    names = printable(f"{compared.model} against {compared.reference}")
    table = Table(title=Text(f"{names}, {compared.tokens:,} tokens"), title_justify="left", show_header=False)
    table.add_row("mean KL", f"{compared.mean_kl:.4f} nats")
    table.add_row("99 % of the tokens below", f"{compared.p99_kl:.4f} nats")
    table.add_row("largest", f"{compared.max_kl:.3f} nats")
    table.add_row("same most likely token", f"{compared.top1_agreement:.2%}")
    table.add_row(
        "perplexity", f"{compared.perplexity:.4f}, of the reference {compared.reference_perplexity:.4f}"
    )
    Console().print(table)


def _advance(progress: Progress, names: list[str], n: int) -> Callable[[Graded], None]:
    """A callback that moves the bars of the whole and of the question's task; what is right so far."""
    whole = progress.add_task("answering", total=n * len(names))
    bars = {name: progress.add_task(name, total=n) for name in names}
    correct = dict.fromkeys(names, 0)
    done = dict.fromkeys(names, 0)

    def on_graded(graded: Graded) -> None:
        name = graded.task
        correct[name] += graded.is_correct
        done[name] += 1
        progress.update(bars[name], advance=1, description=f"{name} {correct[name] / done[name]:.0%} right")
        right = sum(correct.values()) / sum(done.values())
        progress.update(whole, advance=1, description=f"answering, {right:.0%} right")

    return on_graded


def _table(report: Report, with_levels: bool) -> Table:
    title = f"{report.model}, split {report.split}, seed {report.seed}, {report.seconds:.0f} s"
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("task")
    for heading in ("n", "accuracy", "95 % interval", "cut off", "mean reasoning tokens"):
        table.add_column(heading, justify="right")
    for name, result in report.tasks.items():
        table.add_row(
            name, *_cells(result.score), str(result.unfinished), f"{result.mean_reasoning_tokens:.0f}"
        )
        if with_levels:
            for level, score in result.levels.items():
                table.add_row(f"  {level}", *_cells(score), style="dim")
    return table


def _cells(score: Score) -> tuple[str, str, str]:
    row = score.to_dict()
    low, high = row["ci95"]
    return str(row["n"]), f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}"
