"""`araio profile show`: what a profile keeps, how it came about, and how far it is from another."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from araio.cli.commands.profile_fit import held_shares
from araio.cli.printable import printable
from araio.errors import ProfileError
from araio.expert_profile import ExpertProfile

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio profile show math.json",
    "araio profile show math.json logic.json   # with the overlap of the two",
    "araio profile show math.json --json",
)


def command(
    profile: Annotated[Path, typer.Argument(metavar="PROFILE", help="A file of `araio profile fit`.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="OTHER", help="Another of the same model, to compare with.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Show which experts a profile keeps, layer by layer, and how it came about."""
    shown = ExpertProfile.from_file(profile.expanduser())
    compared = None if other is None else ExpertProfile.from_file(other.expanduser())
    if compared is not None and compared.model.fingerprint != shown.model.fingerprint:
        raise ProfileError(
            f"{profile} is of {shown.model.name} and {other} of {compared.model.name}, which have different "
            "routers; only profiles of one model can be compared"
        )
    if as_json:
        sys.stdout.write(json.dumps(document(shown, compared), ensure_ascii=False) + "\n")
        return
    console = Console()
    console.print(_table(shown, compared))
    for line in _lines(shown):
        console.print(Text(printable(line)))


def document(profile: ExpertProfile, other: ExpertProfile | None) -> dict[str, Any]:
    """The document of `--json`: the profile's own, arrays by their shapes, and what follows from it."""
    held = {str(layer): share for layer, share in held_shares(profile).items()}
    derived = {"id": profile.id, "experts": profile.experts, "is_uniform": profile.is_uniform, "held": held}
    if other is not None:
        overlaps = {str(layer): jaccard(profile, other, layer) for layer in profile.keep}
        derived |= {"other": {"name": other.name, "id": other.id}, "jaccard": overlaps}
    shapes = None if profile.habits is None else {name: list(a.shape) for name, a in profile.habits.items()}
    return profile.to_json() | {"habits": shapes} | derived


def jaccard(profile: ExpertProfile, other: ExpertProfile, layer: int) -> float:
    """Experts of a layer that both keep, as a share of those that either keeps."""
    ours, theirs = set(profile.keep[layer]), set(other.keep[layer])
    return len(ours & theirs) / len(ours | theirs)


def _table(profile: ExpertProfile, other: ExpertProfile | None) -> Table:
    model = profile.model
    table = Table(
        title=Text(printable(f"{profile.name}, of {model.name}, id {profile.id}")), title_justify="left"
    )
    table.add_column("layer", justify="right")
    table.add_column(f"kept of {model.n_routed_experts}", justify="right")
    if model.n_group > 1:
        table.add_column("by group")
    table.add_column("of the score", justify="right")
    if other is not None:
        table.add_column(Text(printable(f"Jaccard with {other.name}")), justify="right")
    held = held_shares(profile)
    for layer, ids in profile.keep.items():
        cells = [str(layer), str(len(ids))]
        if model.n_group > 1:
            cells.append(" ".join(map(str, model.group_counts(ids))))
        cells.append(f"{held[layer]:.1%}" if layer in held else "-")
        if other is not None:
            cells.append(f"{jaccard(profile, other, layer):.2f}")
        table.add_row(*cells)
    return table


def _lines(profile: ExpertProfile) -> list[str]:
    described = ", ".join(f"{key} {_value(value)}" for key, value in profile.method.items())
    seen = ", ".join(f"{key} {_value(value)}" for key, value in profile.calibration.items())
    export = (
        "can be exported" if profile.is_uniform else "for pin and mask; to export, fit with --equal-groups"
    )
    measured = profile.evaluation
    return [
        f"how: {described or 'not said'}",
        f"on: {seen or 'not said'}",
        export if profile.mtp is None else f"{export}; {len(profile.mtp)} experts of the prediction module",
        "pinned, it tells the cache what was learned of the domain"
        if profile.habits is not None
        else "pinned, it tells the cache which experts to prefer, and no more: it was fitted without answers",
        "not measured yet: araio profile eval" if measured is None else "measured; --json shows it",
    ]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_value(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "+".join(map(_value, value)) or "none"
    return str(value)
