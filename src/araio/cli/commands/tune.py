"""`araio tune`: trains a domain's experts, and saves them as an adapter; stops and resumes safely."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from araio.adapt.lessons import Lessons, TunedSplit, read_lessons
from araio.adapt.relevance import RELEVANCES, relevant_experts
from araio.api import Model
from araio.cli.commands.train import check_device, stop_on_signal
from araio.cli.load_options import Threads, load_by
from araio.cli.numbers import bytes_text
from araio.cli.progress import note, progress_bar
from araio.cli.prompt_options import PromptSeed
from araio.errors import RequestError, TrainingError
from araio.expert_profile import ExpertProfile

if TYPE_CHECKING:
    from araio.adapt.tune import Tuner
    from araio.adapt.tune_settings import TuneReport, TuneSettings

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio tune pocket --data task:equation --split beyond-train -o equations",
    "araio tune ~/models/V2-Lite --data law.jsonl --p 0.2 --learning-rate 1e-5 --steps 500 -o law",
    "araio tune pocket --data math.jsonl --profile math.json -o math   # the experts that a profile keeps",
    "araio tune pocket --data task:equation --full -o whole            # everything, for comparison",
    "araio run pocket --adapter equations                              # so do serve, eval and convert",
)

SEEN_LESSONS = 64
"""Conversations that the choice of experts goes by."""

Dtype = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(help="What is computed in; bfloat16 is faster on processors that have it."),
]


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="`pocket`, or a checkpoint's folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="To write; must not exist yet.")],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="FILE",
            help="JSONL of prompt or messages, reasoning and answer; task:NAMES or domain:NAME; repeatable.",
        ),
    ],
    p: Annotated[
        float | None,
        typer.Option(help="Experts that have this share of each layer's relevance; 0.2 if not given."),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="In place of --p: the experts that a profile keeps.")
    ] = None,
    relevance: Annotated[
        str, typer.Option(help=f"An expert's share of its layer's: {' or '.join(RELEVANCES)} (weights).")
    ] = "token",
    full: Annotated[
        bool, typer.Option("--full", help="Train everything, and write a whole checkpoint; to compare.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Of training.")] = 200,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 1e-3,
    rows: Annotated[int, typer.Option(help="Of a batch.")] = 4,
    length: Annotated[
        int, typer.Option(help="Tokens of a row, in which whole conversations are packed.")
    ] = 512,
    n: Annotated[int, typer.Option("--n", help="Problems of each task: or domain: source.")] = 4096,
    split: Annotated[
        TunedSplit,
        typer.Option(help="Of those problems: train, or beyond-train, just outside of what pocket knows."),
    ] = "train",
    seed: PromptSeed = 0,
    dtype: Dtype = "float32",
    threads: Threads = None,
    device: Annotated[str, typer.Option(help="`cpu`, or a CUDA device such as `cuda`.")] = "cpu",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what came of it as one JSON document.")
    ] = False,
) -> None:
    """Train the experts that a domain uses, and nothing else (ESFT); the result is a small adapter.

    Ctrl-C ends after the running step; the same command goes on from there.
    """
    _check_choice(p, profile, full=full)
    settings = _settings(steps, learning_rate, rows, length, seed, dtype, device)
    lessons, experts, chosen_by = _prepared(
        model, data, (length, n, seed, split), (p, profile, relevance), full=full, threads=threads
    )
    from araio.adapt.tune import Tuner

    tuner = Tuner(
        model,
        out,
        lessons,
        settings,
        experts,
        tuning={"data": list(data), "split": split, "n": n, "experts_by": chosen_by},
        device=device,
    )
    console = Console(stderr=True)
    _tell_what_is_trained(console, tuner, lessons)
    interrupted = stop_on_signal()
    with progress_bar() as progress:
        on_step = _progress(progress, tuner)
        finished = tuner.run(on_step, interrupted.is_set)
    if as_json:
        sys.stdout.write(json.dumps(document(tuner, finished), ensure_ascii=False) + "\n")
    note(console, f"took {tuner.receipt.text()}")
    if not finished:
        note(
            console,
            f"stopped at step {tuner.step} of {steps}, all kept in {tuner.partial}; the same command goes on",
        )
        raise KeyboardInterrupt
    note(console, summary(tuner))


def _check_choice(p: float | None, profile: Path | None, *, full: bool) -> None:
    if (p is not None) + (profile is not None) + full > 1:
        raise RequestError("say what is trained by one of --p, --profile and --full")


def _settings(
    steps: int,
    learning_rate: float,
    rows: int,
    length: int,
    seed: int,
    dtype: Literal["float32", "bfloat16"],
    device: str,
) -> TuneSettings:
    """What was asked for, checked before a model is loaded; and whether it can be trained here at all."""
    try:
        from araio.adapt.tune_settings import TuneSettings
    except ModuleNotFoundError:
        raise TrainingError(
            "tuning needs PyTorch, which is not installed: pip install 'araio[train]', or scripts/install "
            "train in a clone"
        ) from None
    check_device(device)
    return TuneSettings(steps, learning_rate, rows, length, seed, dtype)


def _prepared(
    name: str,
    data: Sequence[str],
    drawn: tuple[int, int, int, TunedSplit],
    chosen: tuple[float | None, Path | None, str],
    *,
    full: bool,
    threads: int | None,
) -> tuple[Lessons, Mapping[int, Sequence[int]] | None, Mapping[str, Any]]:
    """Lessons, the experts to train, and by what they were chosen; the model is loaded for it, and let go."""
    length, n, seed, split = drawn
    p, profile, relevance = chosen
    loaded = load_by(name, speculate="off", ram=None, cache_tokens=None, threads=threads)
    _use_threads(threads)
    lessons = read_lessons(data, loaded.chat_format, longest=length, n=n, seed=seed, split=split)
    if full:
        return lessons, None, {}
    if profile is not None:
        kept = ExpertProfile.from_file(profile.expanduser())
        kept.check(loaded.config, loaded.fingerprint)
        return lessons, kept.keep, {"profile": kept.id}
    share = 0.2 if p is None else p
    return lessons, _relevant(loaded, lessons, share, relevance), {"relevance": relevance, "p": share}


def _relevant(model: Model, lessons: Lessons, p: float, relevance: str) -> Mapping[int, Sequence[int]]:
    seen = lessons.learned[:SEEN_LESSONS]
    with progress_bar() as progress:
        bar = progress.add_task("choosing experts", total=len(seen))
        return relevant_experts(
            model, seen, p=p, relevance=relevance, on_lesson=lambda: progress.advance(bar)
        )


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _tell_what_is_trained(console: Console, tuner: Tuner, lessons: Lessons) -> None:
    many = sum(len(ids) for ids in (tuner.experts or {}).values())
    what = "everything" if tuner.experts is None else f"{many} experts"
    left_out = f", {lessons.too_long} left out as too long" if lessons.too_long else ""
    note(
        console,
        f"training {what}, {tuner.trained_parameters:,} parameters, on {len(lessons.learned):,} "
        f"conversations{left_out}; {len(lessons.held_out)} kept apart",
    )
    if tuner.step:
        note(console, f"going on at step {tuner.step} of {tuner.settings.steps} in {tuner.partial}")


def _progress(progress: Progress, tuner: Tuner) -> Any:
    bar = progress.add_task("tuning", total=tuner.settings.steps, completed=tuner.step)

    def on_step(report: TuneReport) -> None:
        progress.update(bar, completed=report.step, description=f"tuning, loss {report.loss:.3f}")

    return on_step


def document(tuner: Tuner, finished: bool) -> dict[str, Any]:
    """The document of `--json`."""
    return {
        "folder": str(tuner.out),
        "finished": finished,
        "step": tuner.step,
        "trained_parameters": tuner.trained_parameters,
        "experts": tuner.adapter.to_json()["experts"],
        "bytes": tuner.written_bytes if finished else None,
        "evaluation": tuner.evaluation if finished else None,
        "receipt": tuner.receipt.to_json(),
    }


def summary(tuner: Tuner) -> str:
    """The lines at the end."""
    before, after = (tuner.evaluation[key] for key in ("loss_before", "loss_after"))
    measured = "" if before is None else f"; held-out loss {before:.4f} became {after:.4f}"
    how = f"--model {tuner.out}" if tuner.experts is None else f"--model {tuner.name} --adapter {tuner.out}"
    return f"{tuner.out}: {bytes_text(tuner.written_bytes)}{measured}\nnext: araio run {how}"
