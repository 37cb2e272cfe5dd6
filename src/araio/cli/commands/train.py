"""`araio train`: runs a recipe with a progress bar; stops and resumes safely."""

from __future__ import annotations

import json
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from araio.errors import TrainingError

if TYPE_CHECKING:
    from araio.train.loop import Trainer
    from araio.train.metrics import StepReport

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio train recipes/first.toml",
    "araio train recipes/pocket.toml --prose-folder ~/books --out runs/pocket",
    "araio train recipes/pocket.toml --out runs/pocket      # the same again goes on where it stopped",
)


def command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="What to train, and how.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/NAME of the recipe if not given.")
    ] = None,
    prose_folder: Annotated[
        Path | None, typer.Option(help="Folder of .txt files, one paragraph a line, for the prose share.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; the same number gives the same weights.", min=1)
    ] = None,
    device: Annotated[str, typer.Option(help="`cpu`, or a CUDA device such as `cuda`.")] = "cpu",
    steps: Annotated[
        int | None, typer.Option(help="Stop after this many steps in all; later runs go on.", min=1)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the last step's report as one JSON document.")
    ] = False,
) -> None:
    """Train a model by a recipe. Ctrl-C ends after the running step; the same command goes on from there."""
    trainer = prepare(recipe, out, prose_folder, threads, device)
    console = Console(stderr=True)
    if trainer.step:
        console.print(f"going on at step {trainer.step} of {trainer.recipe.steps} in {trainer.folder}")
    interrupted = stop_on_signal()
    last: list[StepReport] = []
    with progress_bar(console) as progress:
        bar = progress.add_task("training", total=trainer.recipe.steps, completed=trainer.step, numbers="")

        def on_step(report: StepReport) -> None:
            last[:] = [report]
            progress.update(bar, completed=report.step, description=report.stage, numbers=numbers(report))
            if not console.is_terminal:
                console.print(f"step {report.step}/{report.steps} {report.stage}: {numbers(report)}")

        finished = trainer.run(
            on_step, lambda: interrupted.is_set() or (steps is not None and trainer.step >= steps)
        )
    if as_json:
        sys.stdout.write(json.dumps(asdict(last[0]) if last else {"step": trainer.step}) + "\n")
    if finished:
        console.print(
            f"done; the model is in {trainer.folder / 'model'}: araio run {trainer.folder / 'model'}"
        )
    else:
        console.print(f"stopped at step {trainer.step}, all saved; run the same command to go on")
    if interrupted.is_set():
        raise KeyboardInterrupt


def prepare(
    recipe: Path, out: Path | None, prose_folder: Path | None, threads: int | None, device: str
) -> Trainer:
    """The trainer of a run, with PyTorch set up for it."""
    try:
        import torch
    except ModuleNotFoundError:
        raise TrainingError(
            "training needs PyTorch, which is not installed: pip install 'araio[train]'"
        ) from None
    from araio.train.loop import Trainer
    from araio.train.recipe import Recipe

    if device != "cpu" and not torch.cuda.is_available():
        raise TrainingError(
            f"device {device!r} was asked for, but PyTorch sees no CUDA device; leave out --device"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    parsed = Recipe.from_file(recipe)
    return Trainer(parsed, out or Path("runs") / parsed.name, prose_folder, device)


def stop_on_signal() -> threading.Event:
    """An event that Ctrl-C or SIGTERM sets; the second one ends the program at once, as usual."""
    event = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return event


def progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def numbers(report: StepReport) -> str:
    """The few numbers that a person watches."""
    return (
        f"loss {report.loss:.3f} · {report.tok_per_s:,.0f} tok/s · "
        f"MaxVio {report.max_violation_batch:.2f} · lr {report.learning_rate:.1e}"
    )
