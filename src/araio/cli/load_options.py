"""Options of every command that loads a model to answer with, as typer reads them, and loading by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from araio.api import Model, load
from araio.engine.speculate import check_speculate
from araio.quantities import parse_bytes, parse_tokens

__all__ = [
    "AdapterFolder",
    "Approximate",
    "CacheTokens",
    "Country",
    "Io",
    "PriceList",
    "ProfileModeName",
    "Ram",
    "Speculation",
    "Tdp",
    "Threads",
    "load_by",
]

Threads = Annotated[int | None, typer.Option(help="Processors to compute on; every one if not given.")]
Ram = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory for the whole program, as in 6GiB; experts that do not fit are read from disk. What the "
        "machine can spare if not given.",
    ),
]
CacheTokens = Annotated[
    str | None, typer.Option(metavar="TOKENS", help="Of the latent cache, as in 32k; a share if not given.")
]
Io = Annotated[
    str | None,
    typer.Option(metavar="HOW", help="Read experts: auto, direct, uring, buffered; see `ARAIO_IO`."),
]
Speculation = Annotated[
    str | None, typer.Option(help="Draft tokens: auto, on or off; it changes the speed, never the text.")
]
Approximate = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="Choose other experts than the model would, for less work: top-N, or cached (those in memory). "
        "Answers change; what it costs is measured and printed.",
    ),
]
ProfileModeName = Annotated[
    str,
    typer.Option(
        "--profile-mode",
        metavar="HOW",
        help="pin: the profile's experts come first in memory, and answers are as without. mask: they alone "
        "answer, and answers change.",
    ),
]
AdapterFolder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Tuned experts, of `araio tune`, in place of the model's own."),
]
Country = Annotated[
    str | None, typer.Option(help="Whose electricity: a code such as DEU, a name, or grams per kWh.")
]
PriceList = Annotated[
    str | None, typer.Option(help="A price list, or INPUT,OUTPUT in dollars per million tokens.")
]
Tdp = Annotated[
    float | None, typer.Option(help="Watts of the processors at full load, for the energy model.")
]


def load_by(
    name: str, *, speculate: str | None, ram: str | None, cache_tokens: str | None, **options: Any
) -> Model:
    """Load a model by what was typed; the other options are those of `araio.load`, which says what it raises.

    Raises:
        RequestError: a size or a number that is none, naming the option.
    """
    return load(
        name,
        speculate=None if speculate is None else check_speculate(speculate),
        ram=None if ram is None else parse_bytes("--ram", ram),
        cache_tokens=None if cache_tokens is None else parse_tokens("--cache-tokens", cache_tokens),
        **options,
    )
