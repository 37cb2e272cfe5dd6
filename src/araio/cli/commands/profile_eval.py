"""`araio profile eval`: what a profile costs on prompts it was not fitted to, and what it saves."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from araio.adapt.evaluate import Cost, Evaluation, evaluate, steps_of
from araio.adapt.savings import Savings, Streamed
from araio.cli.load_options import Ram, Threads, load_by
from araio.cli.numbers import bytes_text
from araio.cli.printable import printable
from araio.cli.progress import note, progress_bar
from araio.cli.prompt_options import PromptFiles, PromptNumber, PromptSeed
from araio.errors import RequestError
from araio.eval.accuracy import DEFAULT_MAX_TOKENS, check_counts
from araio.eval.prompts import read_prompts
from araio.expert_profile import ExpertProfile

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio profile eval pocket math.json --prompts domain:mathematics --other domain:logic --save",
    "araio profile eval ~/models/R1 math.json --prompts held-out.jsonl --other refusals.jsonl --json",
)


def command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The one that the profile is of: `pocket`, or a folder.")
    ],
    profile: Annotated[Path, typer.Argument(metavar="PROFILE", help="A file of `araio profile fit`.")],
    prompts: PromptFiles = None,
    other: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Prompts of other domains, to see what is lost there; repeatable."),
    ] = None,
    n: PromptNumber = 100,
    seed: PromptSeed = 0,
    max_tokens: Annotated[
        int, typer.Option(help="An answer longer than this counts as wrong.")
    ] = DEFAULT_MAX_TOKENS,
    savings: Annotated[
        bool,
        typer.Option("--savings/--no-savings", help="Also decode with experts on disk, pinned and not."),
    ] = True,
    save: Annotated[bool, typer.Option("--save", help="Keep the result in the profile's file.")] = False,
    ram: Ram = None,
    threads: Threads = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Measure what a model loses with a profile's experts alone, and what is saved by it.

    Problems of `task:` and `domain:` are those of the test split, which nothing is fitted to.
    """
    check_counts(n=n, max_tokens=max_tokens)
    if not prompts:
        raise RequestError("say what to measure on: --prompts FILE, task:NAMES or domain:NAME")
    measured_profile = ExpertProfile.from_file(profile.expanduser())
    own = read_prompts(prompts, n=n, seed=seed, split="test")
    others = read_prompts(other, n=n, seed=seed, split="test") if other else []
    loaded = load_by(model, speculate="off", ram=ram, cache_tokens=None, threads=threads)
    with progress_bar() as progress:
        bar = progress.add_task("answering", total=steps_of(own, others, measures_savings=savings))
        measured = evaluate(
            loaded,
            measured_profile,
            own,
            others,
            max_tokens=max_tokens,
            measures_savings=savings,
            on_step=lambda: progress.advance(bar),
        )
    if save:
        replace(measured_profile, evaluation=measured.to_json()).save(profile.expanduser())
    if as_json:
        sys.stdout.write(json.dumps(measured.to_json(), ensure_ascii=False) + "\n")
        return
    console = Console()
    console.print(_cost_table(measured_profile, measured))
    if measured.savings is not None:
        for line in _savings_lines(measured.savings):
            note(console, line)
    note(console, _verdict(measured))


def _verdict(measured: Evaluation) -> str:
    if found := measured.objections:
        return f"not to be used as a mask: {'; '.join(found)}"
    if measured.doubt is not None:
        return f"undecided: {measured.doubt}"
    return "accepted as a mask of its own domain"


def _cost_table(profile: ExpertProfile, measured: Evaluation) -> Table:
    title = f"{profile.name} as a mask of {measured.model}, {measured.seconds:.0f} s"
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("")
    columns = {"its own": measured.own, **measured.others}
    for name in columns:
        table.add_column(Text(printable(name)), justify="right")
    rows = [_cells(cost) for cost in columns.values()]
    for name in rows[0]:
        table.add_row(name, *(row[name] for row in rows))
    return table


def _cells(cost: Cost) -> dict[str, str]:
    drift, behaviour, accuracy = cost.drift, cost.behaviour, cost.behaviour.accuracy
    cells = {"prompts": f"{behaviour.prompts:,}"}
    if accuracy is None:
        cells |= dict.fromkeys(("accuracy", "with all experts", "change"), "-")
    else:
        cells |= {
            "accuracy": f"{accuracy.kept / accuracy.n:.1%}",
            "with all experts": f"{accuracy.whole / accuracy.n:.1%}",
            "change": f"{accuracy.change:+.1%} ({accuracy.low:+.1%} to {accuracy.high:+.1%})",
        }
    thinking = behaviour.thinking_ratio
    return cells | {
        "mean KL": f"{drift.kl_mean:.4f} nats",
        "95 %, 99 % below": f"{drift.kl_p95:.4f}, {drift.kl_p99:.4f}",
        "same first choice": f"{drift.top1_agreement:.2%}",
        "perplexity": f"{drift.perplexity:.4f} ({drift.whole_perplexity:.4f})",
        "length": f"{behaviour.length_ratio:.2f} x",
        "thinking": "-" if thinking is None else f"{thinking:.2f} x",
        "same answer": f"{behaviour.same:.1%}",
        "cut off": _pair(behaviour.cut_off),
        "in a loop": _pair(behaviour.looping),
        "empty": _pair(behaviour.empty),
        "refused": "-" if behaviour.refused is None else _pair(behaviour.refused),
    }


def _pair(shares: tuple[float, float]) -> str:
    return f"{shares[0]:.1%} ({shares[1]:.1%})"


def _savings_lines(saved: Savings) -> list[str]:
    share = 1 - saved.kept_bytes / saved.whole_bytes
    disk = ""
    if saved.whole_disk_bytes is not None and saved.kept_disk_bytes is not None:
        disk = f", and {bytes_text(saved.kept_disk_bytes)} of {bytes_text(saved.whole_disk_bytes)} on disk"
    title = "exported" if disk else "kept experts alone, which cannot be exported as they are"
    lines = [
        f"{title}: {bytes_text(saved.kept_bytes)} of {bytes_text(saved.whole_bytes)} in memory, {share:.0%} "
        f"less{disk}; each token reads as many experts as before"
    ]
    if saved.pinned is None or saved.unpinned is None:
        return [*lines, f"pinned: not measured, {saved.reason}"]
    return [
        *lines,
        f"experts on disk, {saved.places} places in memory, the same text:",
        f"  pinned    {_streamed(saved.pinned)}",
        f"  unpinned  {_streamed(saved.unpinned)}",
    ]


def _streamed(streamed: Streamed) -> str:
    hits = "-" if streamed.hit_share is None else f"{streamed.hit_share:.1%}"
    same = "" if streamed.is_same_text else "; NOT the same text"
    return (
        f"{hits} in memory, {bytes_text(round(streamed.bytes_per_token))} a token from disk, "
        f"{streamed.tok_per_s:.1f} tok/s, {streamed.joules_per_token:.3f} J a token "
        f"({streamed.joules_method}){same}"
    )
