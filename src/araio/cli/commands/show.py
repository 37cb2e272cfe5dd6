"""`araio show`: what a model consists of, from its config alone; and whether a store is whole."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from araio import env
from araio.cli.numbers import bytes_text, count_text, flops_text, share_text
from araio.cli.printable import printable
from araio.cli.progress import progress_bar
from araio.costs.storage import Storage
from araio.costs.summary import summarize
from araio.errors import CheckpointError
from araio.formats.manifest import MANIFEST_NAME, Manifest
from araio.formats.store import Store
from araio.formats.store_check import check_store
from araio.quantities import parse_tokens
from araio.weights.load import open_checked
from araio.weights.locate import BUNDLED, locate, locate_config

__all__ = ["EXAMPLES", "ConfigName", "command", "stored_codecs"]

EXAMPLES = (
    "araio show pocket",
    "araio show deepseek-r1                 a preset: counted from its published config",
    "araio show ~/models/DeepSeek-V2-Lite   a folder; its config.json is enough",
    "araio show deepseek-r1 --context 32k     and what a token takes that far into a text",
    "araio show kimi-k2 --json",
    "araio show ~/models/lite-q4 --verify   a store of `araio convert`, against its checksums",
)

ConfigName = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="`pocket`, the default, a preset, a folder or a config.json.",
        show_default=False,
    ),
]
"""The argument of commands to which a config is enough."""


def command(
    model: ConfigName = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read a whole store and compare its checksums first.")
    ] = False,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS",
            help="Count what one token takes that attends to so many, as in 32k: operations, bytes read.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Count a model: parameters in total and per token by part, bytes of weights, bytes of cache."""
    name = model or env.get("ARAIO_MODEL")
    config, store = locate_config(name), stored_codecs(name)
    storage = Storage(**store["codecs"]) if store else None
    tokens = None if context is None else parse_tokens("--context", context)
    summary = {"model": name} | summarize(config, storage, tokens)
    summary |= {"file_bytes": _file_bytes(name), "store": store}
    if verify:
        _verify(locate(name))
        summary["store"]["is_verified"] = True
    if as_json:
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
        return
    console = Console()
    console.print(_parts_table(summary))
    console.print()
    console.print(_facts_table(summary))


def _file_bytes(model: str) -> int | None:
    """Bytes of the safetensors files, where the model is a folder that has any."""
    return sum(path.stat().st_size for path in _folder(model).glob("*.safetensors")) or None


def stored_codecs(model: str) -> dict[str, Any] | None:
    """The codec of each class of weights, where the model is a store."""
    path = _folder(model) / MANIFEST_NAME
    return {"codecs": asdict(Manifest.read(path).codecs)} if path.exists() else None


def _folder(model: str) -> Path:
    return BUNDLED.get(model, Path(model).expanduser())


def _verify(folder: Path) -> None:
    with open_checked(folder) as (_, source):
        if not isinstance(source, Store):
            raise CheckpointError(f"{folder}: has no checksums to verify; only stores of `araio convert` do")
        with progress_bar(in_bytes=True) as progress:
            bar = progress.add_task("checking", total=sum(file.size_bytes for file in source.files))
            check_store(source, lambda size: progress.advance(bar, size))


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
    if summary["store"]:
        stored = ", ".join(f"{name} {codec}" for name, codec in summary["store"]["codecs"].items())
    facts = {
        "size": f"{count_text(total)}, of which {count_text(active)} per token ({share_text(active, total)})",
        "layers": f"{summary['layers']} of width {summary['hidden_size']}, {summary['vocab_size']:,} tokens",
        "attention": f"{attention['num_attention_heads']} heads, latent {attention['kv_lora_rank']} + "
        f"{attention['qk_rope_head_dim']} rotary, query rank {rank}",
        "experts": _experts_text(summary["experts"]),
        "cache": f"{summary['cache_bytes_per_token']:,} bytes per token in bfloat16",
        "context": f"{summary['context']:,} tokens, {_rope_text(**summary['rope'])}",
        "weights": f"{bytes_text(summary['weight_bytes'])}, {stored}",
        "files": (bytes_text(files) if files else "none here") + _store_text(summary["store"]),
    }
    return facts | (_facts_at_context(**summary["at_context"]) if summary["at_context"] else {})


def _store_text(store: dict[str, Any] | None) -> str:
    if store is None:
        return ""
    return ", a store" + ("; every checksum holds" if "is_verified" in store else "")


def _facts_at_context(
    context: int, decode_flops: dict[str, int], decode_bytes: dict[str, int], prefill_flops: int
) -> dict[str, str]:
    weights, attention = flops_text(decode_flops["weights"]), flops_text(decode_flops["attention"])
    read = bytes_text(decode_bytes["dense"] + decode_bytes["experts"])
    return {
        f"a token at {context:,}": f"{weights} with weights, {attention} of attention; reads {read} "
        f"of weights, {bytes_text(decode_bytes['cache'])} of cache",
        "a prompt as long": flops_text(prefill_flops),
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
