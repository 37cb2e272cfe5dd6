"""`araio show`: what a model consists of, from its config alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from araio import env
from araio.cli.numbers import bytes_text, count_text, share_text
from araio.cli.printable import printable
from araio.costs.summary import summarize
from araio.weights.locate import BUNDLED, locate_config

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio show pocket",
    "araio show deepseek-r1                 a preset: counted from its published config",
    "araio show ~/models/DeepSeek-V2-Lite   a folder; its config.json is enough",
    "araio show kimi-k2 --json",
)


def command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="`pocket`, the default, a preset, a folder or a config.json.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Count a model: parameters in total and per token by part, bytes of weights, bytes of cache."""
    name = model or env.get("ARAIO_MODEL")
    summary = {"model": name} | summarize(locate_config(name)) | {"file_bytes": _file_bytes(name)}
    if as_json:
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
        return
    console = Console()
    console.print(_parts_table(summary))
    console.print()
    console.print(_facts_table(summary))


def _file_bytes(model: str) -> int | None:
    """Bytes of the safetensors files, where the model is a folder that has any."""
    folder = BUNDLED.get(model, Path(model).expanduser())
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) or None


def _parts_table(summary: dict[str, Any]) -> Table:
    table = Table(title=Text(printable(summary["model"])), title_justify="left", box=None, pad_edge=False)
    table.add_column("part")
    for heading in ("parameters", "share", "per token", "weights"):
        table.add_column(heading, justify="right")
    parameters = summary["parameters"]
    whole = {"total": parameters["total"], "active": parameters["active"], "bytes": summary["weight_bytes"]}
    parts = {name.replace("_", " "): part for name, part in summary["parts"].items()} | {"model": whole}
    if summary["mtp"]:
        parts["MTP module, apart"] = summary["mtp"]
    for name, part in parts.items():
        table.add_row(
            name,
            f"{part['total']:,}",
            share_text(part["total"], parameters["total"]),
            f"{part['active']:,}",
            bytes_text(part["bytes"]),
            style="bold" if name == "model" else None,
        )
        if name == "model":
            table.add_row("  counting the embedding", "", "", f"{parameters['active_with_embedding']:,}", "")
    return table


def _facts_table(summary: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for name, text in _facts(summary).items():
        table.add_row(name, Text(text))
    return table


def _facts(summary: dict[str, Any]) -> dict[str, str]:
    total, active = summary["parameters"]["total"], summary["parameters"]["active"]
    attention, files, quantization = summary["attention"], summary["file_bytes"], summary["quantization"]
    rank = attention["q_lora_rank"] or "none"
    stored = f"FP8 e4m3, one scale per {quantization['block']} block" if quantization else "not quantised"
    return {
        "size": f"{count_text(total)}, of which {count_text(active)} per token ({share_text(active, total)})",
        "layers": f"{summary['layers']} of width {summary['hidden_size']}, {summary['vocab_size']:,} tokens",
        "attention": f"{attention['num_attention_heads']} heads, latent {attention['kv_lora_rank']} + "
        f"{attention['qk_rope_head_dim']} rotary, query rank {rank}",
        "experts": _experts_text(summary["experts"]),
        "cache": f"{summary['cache_bytes_per_token']:,} bytes per token in bfloat16",
        "context": f"{summary['context']:,} tokens, {_rope_text(**summary['rope'])}",
        "weights": f"{bytes_text(summary['weight_bytes'])}, {stored}",
        "files": bytes_text(files) if files else "none here",
    }


def _experts_text(experts: dict[str, Any] | None) -> str:
    if experts is None:
        return "none; every layer is dense"
    groups = (
        f" within {experts['groups_per_token']} of {experts['groups']} groups"
        if experts["groups"] > 1
        else ""
    )
    return (
        f"{experts['active']} of {experts['routed']} routed{groups} + {experts['shared']} shared in "
        f"{experts['layers']} layers; router {experts['router']}, {experts['scoring']}"
    )


def _rope_text(theta: float, yarn: dict[str, float] | None) -> str:
    stretched = (
        f", YaRN x{yarn['factor']:g} from {yarn['original_max_position_embeddings']:,}" if yarn else ""
    )
    return f"rotary base {theta:g}{stretched}"
