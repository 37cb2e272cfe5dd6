"""`araio trace`: a model answers prompts, and every token's experts are recorded as it does."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from araio import env
from araio.api import Model
from araio.api.recording import Recording, check_domain
from araio.cli.ctrl_c import ctrl_c
from araio.cli.load_options import Approximate, CacheTokens, Io, Ram, Speculation, Threads, load_by
from araio.cli.numbers import bytes_text
from araio.cli.progress import note, progress_bar
from araio.cli.prompt_options import PromptFiles, PromptNumber, PromptSeed
from araio.cli.trace_text import folder_bytes
from araio.errors import RequestError
from araio.eval.accuracy import check_counts
from araio.eval.prompts import BUNDLED_DOMAINS, Prompt, read_prompts
from araio.eval.recording import Recorded, record
from araio.train.tasks import Split

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio trace                               pocket, over its three domains",
    "araio trace ~/models/r1-q4 --ram 16GiB --prompts math.jsonl --domain math --out math.moetrace",
    "araio trace pocket --tasks chain,order --n 100 --out pocket.moetrace --force",
    "araio trace pocket --prompts domain:logic --prompts mine.txt --no-text --json",
    "araio lens pocket.moetrace                what it shows",
)

FEW = 3
"""Prompts that were skipped which are told one by one."""


def command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="`pocket`, the default, or a folder.", show_default=False),
    ] = None,
    prompts: PromptFiles = None,
    tasks: Annotated[
        str | None, typer.Option(help="Bundled families, as in chain,order; as --prompts task:chain,order.")
    ] = None,
    domain: Annotated[
        str, typer.Option(metavar="NAME", help="Of prompts that name none of their own.")
    ] = "all",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="X.moetrace", help="The trace; the model's name if not given."),
    ] = None,
    n: PromptNumber = 32,
    seed: PromptSeed = 0,
    split: Annotated[Split, typer.Option(help="Of bundled problems.")] = "train",
    max_tokens: Annotated[int, typer.Option(help="Of each answer, its thinking among them.")] = 2048,
    batch: Annotated[int, typer.Option(help="Prompts that are answered together.")] = 16,
    text: Annotated[bool, typer.Option("--text/--no-text", help="Keep the tokens themselves.")] = True,
    weights: Annotated[
        bool, typer.Option("--weights/--no-weights", help="Keep each expert's weight.")
    ] = True,
    margin: Annotated[
        bool, typer.Option("--margin", help="Keep how near each choice was to another one.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a trace that is there.")] = False,
    threads: Threads = None,
    ram: Ram = None,
    cache_tokens: CacheTokens = None,
    io: Io = None,
    speculate: Speculation = None,
    approximate: Approximate = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Record which experts every token uses while a model answers prompts.

    Without --prompts and --tasks these are problems of the three bundled domains. Ctrl-C ends it early and
    keeps what was recorded.
    """
    check_domain(domain)
    check_counts(batch=batch, max_tokens=max_tokens)
    asked = read_prompts(_sources(prompts, tasks), n=n, seed=seed, split=split)
    name = model or env.get("ARAIO_MODEL")
    path = Path(f"{Path(name).resolve().name}.moetrace") if out is None else out.expanduser()
    if path.exists() and not force:  # told before a large model is loaded
        raise RequestError(f"{path}: exists already; give --force to replace it, or another --out")
    loaded = load_by(
        name,
        threads=threads,
        speculate=speculate,
        ram=ram,
        cache_tokens=cache_tokens,
        io=io,
        approximate=approximate,
        max_batch=batch,
    )
    recording = loaded.trace(path, domain=domain, text=text, weights=weights, margin=margin, overwrite=force)
    recorded, began_s = Recorded(), time.monotonic()
    is_interrupted = False
    try:
        with recording:
            _record(loaded, recording, asked, recorded, domain, batch, max_tokens, seed)
    except KeyboardInterrupt:
        is_interrupted = True
    document = _document(loaded, recording, recorded, time.monotonic() - began_s, is_interrupted)
    _tell(document, recorded)
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    if is_interrupted:
        raise KeyboardInterrupt


def _sources(prompts: list[str] | None, tasks: str | None) -> list[str]:
    sources = [*(prompts or []), *([] if tasks is None else [f"task:{tasks}"])]
    return sources or [f"domain:{domain}" for domain in BUNDLED_DOMAINS]


def _record(
    model: Model,
    recording: Recording,
    asked: list[Prompt],
    recorded: Recorded,
    domain: str,
    batch: int,
    max_tokens: int,
    seed: int,
) -> None:
    with progress_bar() as progress:
        bar = progress.add_task("answering", total=len(asked))

        def on_step() -> None:
            ctrl_c.check()
            progress.update(bar, description=f"answering, {recording.tokens:,} tokens")

        record(
            model,
            recording,
            asked,
            domain=domain,
            batch=batch,
            max_tokens=max_tokens,
            seed=seed,
            recorded=recorded,
            on_answer=lambda: progress.advance(bar),
            on_step=on_step,
        )
    if not recording.tokens and recorded.skipped:
        raise RequestError(f"no prompt could be asked; the first: {recorded.skipped[0][1]}")


def _document(
    model: Model, recording: Recording, recorded: Recorded, seconds: float, is_interrupted: bool
) -> dict[str, Any]:
    is_there = recording.tokens > 0
    return {
        "trace": str(recording.path) if is_there else None,
        "model": model.label,
        "tokens": recording.tokens,
        "domains": recording.tokens_by_domain(),
        "answers": recorded.answered,
        "cut_off": recorded.cut_off,
        "skipped": [{"source": prompt.source, "reason": reason} for prompt, reason in recorded.skipped],
        "bytes": folder_bytes(recording.path) if is_there else 0,
        "seconds": seconds,
        "is_interrupted": is_interrupted,
    }


def _tell(document: dict[str, Any], recorded: Recorded) -> None:
    """What was recorded, where it is and what to do with it."""
    console = Console(stderr=True)
    for prompt, reason in recorded.skipped[:FEW]:
        note(console, f"skipped a prompt of {prompt.source}: {reason}")
    if len(recorded.skipped) > FEW:
        note(console, f"and {len(recorded.skipped) - FEW:,} more")
    if document["is_interrupted"]:
        note(console, f"interrupted after {recorded.answered:,} answers; what was recorded is kept")
    if document["trace"] is None:
        note(console, "nothing was recorded")
        return
    domains = ", ".join(f"{name} {tokens:,}" for name, tokens in document["domains"].items())
    path, size = document["trace"], bytes_text(document["bytes"])
    note(console, f"{document['tokens']:,} tokens ({domains}) in {path}, {size}")
    if recorded.cut_off:
        note(console, f"{recorded.cut_off:,} of {recorded.answered:,} answers ended at --max-tokens")
    note(console, f"next: araio lens {path}")
