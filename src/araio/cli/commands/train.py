"""`araio train`: runs a recipe with a progress bar; stops and resumes safely.

Nothing here imports PyTorch before the recipe is known to be sound. Read `train/loop.py` for the run itself.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections import deque
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from araio.cli.progress import note
from araio.errors import TrainingError

if TYPE_CHECKING:
    from araio.train.loop import Report, Trainer

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio train recipes/first.toml",
    "araio train recipes/reason.toml                        # R1's pipeline in small, from the bundled model",
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
        bool, typer.Option("--json", help="Print where the run stands as one JSON document, when it ends.")
    ] = False,
) -> None:
    """Train a model by a recipe. Ctrl-C ends after the running step; the same command goes on from there."""
    trainer = prepare(recipe, out, prose_folder, threads, device)
    console = Console(stderr=True)
    if trainer.step:
        note(console, f"going on at step {trainer.step} of {trainer.recipe.steps} in {trainer.folder}")
    interrupted = stop_on_signal()
    reports: deque[Report] = deque(maxlen=1)
    with progress_bar(console) as progress:
        bar = progress.add_task("training", total=trainer.recipe.steps, completed=trainer.step, numbers="")

        def on_step(report: Report) -> None:
            reports.append(report)
            progress.update(bar, completed=report.step, description=report.stage, numbers=report.text)
            if not console.is_terminal:
                note(console, f"step {report.step}/{report.steps} {report.stage}: {report.text}")
            for line in report.notes:
                note(console, f"step {report.step}: {line}")

        finished = trainer.run(
            on_step, lambda: interrupted.is_set() or (steps is not None and trainer.step >= steps)
        )
    if as_json:
        document = summary(trainer, finished, reports[0] if reports else None)
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    note(console, f"took {trainer.receipt.text()}")
    if finished:
        note(console, f"done; ask the model: araio run --model {trainer.model_folder}")
        return
    how = "run the same command" if interrupted.is_set() else "raise --steps or leave it out"
    note(console, f"stopped at step {trainer.step} of {trainer.recipe.steps}, all saved; {how} to go on")
    if interrupted.is_set():
        raise KeyboardInterrupt


def prepare(
    recipe: Path, out: Path | None, prose_folder: Path | None, threads: int | None, device: str
) -> Trainer:
    """The trainer of a run, with PyTorch set up for it."""
    from araio.train.recipe import Recipe

    parsed = Recipe.from_file(recipe)
    try:
        import torch
    except ModuleNotFoundError:
        raise TrainingError(
            "training needs PyTorch, which is not installed: pip install 'araio[train]', "
            "or scripts/install train in a clone"
        ) from None
    from araio.train.loop import Trainer

    check_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    return Trainer(parsed, out or Path("runs") / parsed.name, prose_folder, device)


def check_device(name: str) -> None:
    """Refuse what is no device, or none of this machine."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise TrainingError(f"device {name!r} is unknown; expected cpu, cuda or cuda:N") from None
    found = torch.cuda.device_count()
    if device.type != "cpu" and not (device.type == "cuda" and (device.index or 0) < found):
        raise TrainingError(
            f"device {name!r} was asked for, but PyTorch sees {found} CUDA devices; "
            "leave out --device to train on the CPU"
        )


def summary(trainer: Trainer, finished: bool, last: Report | None) -> dict[str, Any]:
    """The document of `--json`."""
    return {
        "recipe": trainer.recipe.name,
        "folder": str(trainer.folder),
        "step": trainer.step,
        "steps": trainer.recipe.steps,
        "finished": finished,
        "model": str(trainer.model_folder) if finished else None,
        "last_report": asdict(last) if last else None,
        "receipt": trainer.receipt.to_json(),
    }


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
