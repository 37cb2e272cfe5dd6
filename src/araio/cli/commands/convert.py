"""`araio convert`: a model to a store with the codecs that were asked for; an interrupted one goes on."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from araio.cli.load_options import AdapterFolder
from araio.cli.numbers import bytes_text
from araio.cli.progress import note, progress_bar
from araio.formats.store_layout import StoreCodecs
from araio.weights.adapter import Adapter
from araio.weights.convert import Conversion, convert
from araio.weights.locate import locate

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio convert pocket pocket-q8 --quant q8",
    "araio convert ~/models/DeepSeek-V2-Lite-Chat ~/models/lite-q4 --quant q4 --dense q8 --embeddings q8",
    "araio convert ~/models/DeepSeek-R1 ~/models/r1-fp8 --quant fp8   # FP8 as published, bit for bit",
    "araio convert pocket pocket-tuned --quant bf16 --adapter letters   # tuned experts in place of its own",
    'araio run ~/models/lite-q4 "Why is the sky blue?"   # a store is a MODEL everywhere',
)


def command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="`pocket`, a checkpoint's folder or a store.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the store; must not exist yet.")],
    quant: Annotated[
        str, typer.Option(help="How weights are stored: `q4`, `q8`, `fp8`, `bf16` or `f32`.", metavar="CODEC")
    ],
    experts: Annotated[
        str | None, typer.Option(help="Another codec for the routed experts.", metavar="CODEC")
    ] = None,
    dense: Annotated[
        str | None,
        typer.Option(help="Another codec for attention, dense layers and shared experts.", metavar="CODEC"),
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            help="Another codec for the embedding and the output matrix; bf16 where --quant is fp8.",
            metavar="CODEC",
        ),
    ] = None,
    adapter: AdapterFolder = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as one JSON document.")
    ] = False,
) -> None:
    """Convert a model to a store, weights as the kernels read them. After Ctrl-C the same command goes on."""
    codecs = StoreCodecs(
        experts=experts or quant,
        dense=dense or quant,
        embeddings=embeddings or ("bf16" if quant == "fp8" else quant),
    )
    console = Console(stderr=True)
    begun_s = time.monotonic()
    try:
        with progress_bar(in_bytes=True) as progress:
            bar = progress.add_task("converting", total=None)
            conversion = convert(
                locate(model),
                out.expanduser(),
                codecs,
                lambda done, total: progress.update(bar, completed=done, total=total),
                None if adapter is None else Adapter.open(adapter),
            )
    except KeyboardInterrupt:
        note(console, "stopped; what is complete is kept, and the same command goes on from there")
        raise
    seconds = time.monotonic() - begun_s
    if as_json:
        sys.stdout.write(json.dumps(document(conversion, seconds), ensure_ascii=False) + "\n")
    else:
        note(console, summary(conversion, seconds))


def document(conversion: Conversion, seconds: float) -> dict[str, Any]:
    """The document of `--json`."""
    return {
        "folder": str(conversion.folder),
        "codecs": asdict(conversion.codecs),
        "weights": conversion.weights,
        "source_bytes": conversion.source_bytes,
        "store_bytes": conversion.store_bytes,
        "bits_per_weight": conversion.bits_per_weight,
        "seconds": seconds,
    }


def summary(conversion: Conversion, seconds: float) -> str:
    """The one line at the end."""
    return (
        f"{conversion.folder}: {bytes_text(conversion.source_bytes)} became "
        f"{bytes_text(conversion.store_bytes)}, {conversion.bits_per_weight:.2f} bits per weight, in "
        f"{seconds:,.1f} s"
    )
