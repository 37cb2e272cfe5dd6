"""`araio profile export`: a smaller checkpoint, of the experts that a profile keeps."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from araio.cli.numbers import bytes_text
from araio.cli.progress import note, progress_bar
from araio.expert_profile import ExpertProfile
from araio.weights.locate import locate
from araio.weights.prune import Exported, export

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio profile export pocket math.json pocket-math   # of a profile that was fitted with --equal-groups",
    "araio run pocket-math   # what was exported is a MODEL everywhere, for transformers, too",
)


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="`pocket`, or a checkpoint's folder.")],
    profile: Annotated[Path, typer.Argument(metavar="PROFILE", help="A file of `araio profile fit`.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; must not exist yet.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as one JSON document.")
    ] = False,
) -> None:
    """Write a Hugging Face checkpoint of the kept experts only; weights are copied byte by byte."""
    kept = ExpertProfile.from_file(profile.expanduser())
    begun_s = time.monotonic()
    with progress_bar(in_bytes=True) as progress:
        bar = progress.add_task("exporting", total=None)
        exported = export(
            locate(model),
            out.expanduser(),
            kept,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    seconds = time.monotonic() - begun_s
    if as_json:
        sys.stdout.write(json.dumps(document(exported, seconds), ensure_ascii=False) + "\n")
    else:
        note(Console(stderr=True), summary(exported, seconds))


def document(exported: Exported, seconds: float) -> dict[str, Any]:
    """The document of `--json`."""
    return asdict(exported) | {"folder": str(exported.folder), "seconds": seconds}


def summary(exported: Exported, seconds: float) -> str:
    """The one line at the end."""
    module = "with its prediction module" if exported.has_mtp else "without a prediction module"
    return (
        f"{exported.folder}: {exported.experts} of {exported.source_experts} experts, {module}; "
        f"{bytes_text(exported.source_bytes)} became {bytes_text(exported.bytes)} in {seconds:,.1f} s"
    )
