"""`araio profile fit`: a model answers a domain's prompts, and the experts that it needs are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from araio.adapt.calibration import MAX_TOKENS, Calibration, calibrate
from araio.adapt.fit import GENERAL_SHARE, PROTECTIONS, Fitted, check_names, check_target, fit
from araio.adapt.scores import SCORES
from araio.adapt.select import Target
from araio.api import Model
from araio.cli.load_options import Ram, Threads, load_by
from araio.cli.out_file import check_out
from araio.cli.progress import note, progress_bar
from araio.cli.prompt_options import PromptFiles, PromptNumber, PromptSeed
from araio.config import ModelConfig
from araio.errors import ProfileError
from araio.eval.prompts import Prompt, read_prompts
from araio.expert_profile import ExpertProfile
from araio.weights.locate import locate

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio profile fit pocket --prompts domain:mathematics --keep 0.75 -o math.json",
    "araio profile fit pocket --prompts task:chain --keep 0.75 --equal-groups -o cut.json   # to export",
    "araio profile fit ~/models/R1 --prompts math.jsonl --coverage 0.95 -o math.json",
    "araio profile fit pocket --prompts task:chain --keep 0.75 -o a.json --save-statistics seen.safetensors",
    "araio profile fit pocket --prompts task:story --general domain:language --keep 0.75 -o story.json",
    "araio profile fit pocket --statistics seen.safetensors --keep 0.5 --score reap -o b.json   # cut again",
)


def command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="`pocket`, a checkpoint's folder or a store.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The profile to write.")],
    prompts: PromptFiles = None,
    keep: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Of each layer's experts, as in 0.75.")
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="In place of --keep: as few as hold that share of the score."),
    ] = None,
    score: Annotated[str, typer.Option(help=f"By what experts are ranked: {', '.join(SCORES)}.")] = SCORES[0],
    protect: Annotated[
        str, typer.Option(help=f"Experts that stay whatever their score: {', '.join(PROTECTIONS)}, or none.")
    ] = "super",
    general: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="As --prompts: text beside the domain that has a say; repeatable."),
    ] = None,
    general_share: Annotated[
        float, typer.Option(metavar="SHARE", help="Of the score, that --general decides.")
    ] = GENERAL_SHARE,
    spare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="As --prompts: another domain, of whose score a tenth stays; repeatable.",
        ),
    ] = None,
    equal_groups: Annotated[
        bool,
        typer.Option(
            "--equal-groups",
            help="Keep as many in every group of every layer, as an export needs; else the best, wherever.",
        ),
    ] = False,
    generate: Annotated[
        bool, typer.Option("--generate/--no-generate", help="Look at the model's own answers, too.")
    ] = True,
    n: PromptNumber = 64,
    seed: PromptSeed = 0,
    max_tokens: Annotated[int, typer.Option(help="Of each answer that is looked at.")] = MAX_TOKENS,
    name: Annotated[
        str | None,
        typer.Option(help="Of the profile, by which requests ask for it; the file's if not given."),
    ] = None,
    save_statistics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep what was seen, to cut again without running.")
    ] = None,
    statistics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="In place of --prompts: what was seen before.")
    ] = None,
    ram: Ram = None,
    threads: Threads = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was fitted as one JSON document.")
    ] = False,
) -> None:
    """Find the experts that a domain needs, and write them as a profile for `run` and `serve` --profile."""
    target = Target(keep=keep, coverage=coverage)
    if (statistics is None) == (not prompts):
        raise ProfileError("say what to fit to by one of --prompts and --statistics")
    # Whatever can be told now is told before the model runs: that may take hours.
    protected = () if protect == "none" else tuple(entry.strip() for entry in protect.split(","))
    check_names(score, protected)
    check_out(out, "--out")
    check_out(save_statistics, "--save-statistics")
    if statistics is not None and (general or spare):
        raise ProfileError(
            "--general and --spare are looked at with --prompts; --statistics has them already"
        )
    config = ModelConfig.from_file(locate(model))
    check_target(target, config, name or out.stem, general_share, equal_groups=equal_groups)
    asked = [
        read_prompts(each, n=n, seed=seed, split="train") if each else []
        for each in (prompts, general, spare)
    ]
    loaded = load_by(model, speculate="off", ram=ram, cache_tokens=None, threads=threads)
    if statistics is None:
        seen = _calibrated(loaded, asked, generate, max_tokens)
    else:
        seen = Calibration.from_file(statistics.expanduser())
    if save_statistics is not None:  # before anything is refused: what was seen took long
        seen.save(save_statistics.expanduser())
    fitted = fit(
        seen,
        loaded.config,
        target,
        name=name or out.stem,
        score_name=score,
        protect=protected,
        equal_groups=equal_groups,
        general_share=general_share,
    )
    fitted.profile.check(loaded.config, loaded.fingerprint)
    fitted.profile.save(out.expanduser())
    console = Console(stderr=True)
    for warning in fitted.warnings:
        note(console, f"note: {warning}")
    if as_json:
        sys.stdout.write(json.dumps(document(fitted, out), ensure_ascii=False) + "\n")
        return
    note(console, summary(fitted.profile, out))


def _calibrated(model: Model, asked: list[list[Prompt]], generate: bool, max_tokens: int) -> Calibration:
    """What experts do for the domain's prompts, general ones and those of domains to spare."""
    prompts, general, spared = asked
    with progress_bar() as progress:
        total = sum(map(len, asked)) * (1 + generate)
        bar = progress.add_task("answering and looking", total=total)
        return calibrate(
            model,
            prompts,
            general=general,
            spared=spared,
            generate=generate,
            max_tokens=max_tokens,
            on_prompt=lambda: progress.advance(bar),
        )


def document(fitted: Fitted, out: Path) -> dict[str, Any]:
    """The document of `--json`: the profile's own, without scores, and what there is to say of it."""
    profile = fitted.profile
    shown = {key: value for key, value in profile.to_json().items() if key not in ("scores", "habits")}
    held = {str(layer): share for layer, share in held_shares(profile).items()}
    return shown | {
        "file": str(out),
        "id": profile.id,
        "experts": profile.experts,
        "is_uniform": profile.is_uniform,
        "held": held,
        "warnings": list(fitted.warnings),
    }


def held_shares(profile: ExpertProfile) -> dict[int, float]:
    """How much of its layer's score the kept experts of each layer hold; empty where scores were not kept."""
    return {
        layer: sum(profile.scores[layer][expert] for expert in ids) / sum(profile.scores[layer])
        for layer, ids in profile.keep.items()
        if profile.scores is not None and layer in profile.scores
    }


def summary(profile: ExpertProfile, out: Path) -> str:
    """The lines at the end."""
    counts = sorted({len(ids) for ids in profile.keep.values()})
    many = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    seen, held = profile.calibration, held_shares(profile).values()
    return (
        f"{out}: profile {profile.name!r} keeps {many} of {profile.model.n_routed_experts} experts in each "
        f"of {len(profile.keep)} layers, which hold {min(held):.1%} of the score or more; fitted to "
        f"{seen['tokens']:,} tokens of {seen['sequences']:,} prompts\n"
        f"next: araio profile eval {profile.model.name} {out} --prompts ...   # what it costs"
    )
