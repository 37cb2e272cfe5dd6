"""`araio serve`: a model for every client that speaks OpenAI's API, and a page to talk with it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from araio import env
from araio.cli.approximation_text import approximation_text
from araio.cli.budget_text import budget_text
from araio.cli.load_options import (
    AdapterFolder,
    Approximate,
    CacheTokens,
    Country,
    Io,
    PriceList,
    ProfileModeName,
    Ram,
    Speculation,
    Tdp,
    Threads,
    load_by,
)
from araio.cli.profile_text import profile_lines
from araio.cli.serve_text import ready_text, url_of
from araio.errors import RequestError
from araio.serve.keys import file_warning, read_keys
from araio.serve.launch import server_of
from araio.serve.loading import answer_loading
from araio.serve.server import bind
from araio.serve.service import Service
from araio.serve.settings import ReasoningField, Settings, ranges
from araio.traces.trace import Trace
from araio.weights.locate import locate

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio serve                              the bundled model at http://127.0.0.1:8484",
    "araio serve ~/models/r1-q4 --ram 16GiB",
    "araio serve --port 0 --json              any free port; what it is, as JSON",
    "araio serve --host 0.0.0.0 --api-key-file keys.txt",
    "araio serve ~/models/r1-q4 --ram 16GiB --profile math.json --profile code.json",
    "araio serve --limit n=4 --limit body_bytes=1048576",
)

ModelName = Annotated[str | None, typer.Argument(metavar="MODEL", show_default=False)]
Host = Annotated[str | None, typer.Option(help="Address to listen on; others than this machine need a key.")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (8484); 0 takes a free one.")]
KeyFile = Annotated[
    Path | None, typer.Option("--api-key-file", help="Keys, one a line; `ARAIO_API_KEYS` if not given.")
]
AllowHost = Annotated[
    list[str] | None, typer.Option("--allow-host", help="A name, as in example.org, that requests may use.")
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option("--allow-origin", help="Pages, as in https://example.org, that may ask from a browser."),
]
Reasoning = Annotated[
    str, typer.Option("--reasoning-field", help="Name of the thinking: reasoning_content or reasoning.")
]
Traces = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where /start_expert_distribution_record may write traces."),
]
OfTrace = Annotated[
    Path | None,
    typer.Option("--trace", metavar="TRACE", help="Of this model: the page's map shows whom experts serve."),
]
MaxBatch = Annotated[int, typer.Option(help="Requests that run together; more of them wait.")]
Queue = Annotated[int | None, typer.Option(help="Requests that may wait; more of them get 503.")]
Limit = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=NUMBER", help="A limit by its name; `GET /v1/limits` lists them all."),
]
ProfileFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="Experts for a domain, which requests ask for by the profile's name; may be given several "
        "times. --profile-mode is for the first.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout once it is ready.")]


def command(
    model: ModelName = None,
    host: Host = None,
    port: Port = None,
    api_key_file: KeyFile = None,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    reasoning_field: Reasoning = "reasoning_content",
    traces: Traces = None,
    trace: OfTrace = None,
    max_batch: MaxBatch = 16,
    queue: Queue = None,
    limit: Limit = None,
    as_json: AsJson = False,
    threads: Threads = None,
    ram: Ram = None,
    cache_tokens: CacheTokens = None,
    io: Io = None,
    speculate: Speculation = None,
    approximate: Approximate = None,
    profile: ProfileFiles = None,
    profile_mode: ProfileModeName = "pin",
    adapter: AdapterFolder = None,
    country: Country = None,
    prices: PriceList = None,
    tdp: Tdp = None,
) -> None:
    """Serve a model: an OpenAI-compatible API under /v1, and a page to talk with it at /.

    MODEL is `pocket`, which comes with araio and is the default, or the folder of a checkpoint or a store.
    Only this machine can reach it unless --host says otherwise, and then a key is needed.
    """
    folder = None if traces is None else traces.expanduser()
    if folder is not None and folder.is_file():
        raise RequestError(
            f"--traces {traces}: is a file; expected a folder, which is made if it is not there"
        )
    settings = Settings(
        host=host or env.get("ARAIO_HOST"),
        port=_port() if port is None else port,
        keys=read_keys(api_key_file),
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        reasoning_field=cast(ReasoningField, reasoning_field),
        traces=folder,
        trace=None if trace is None else trace.expanduser(),
        **_limits(limit or [], queue),
    )
    if api_key_file is not None and (warning := file_warning(api_key_file)) is not None:
        _note(warning)
    if settings.trace is not None:
        Trace.open(settings.trace)  # a mistake in it is told before a large model is loaded
    _begin_log()
    name = model or env.get("ARAIO_MODEL")
    locate(name)
    # Before a large model is loaded, so that a taken port is told at once.
    listener = bind(settings.host, settings.port)
    with answer_loading(listener):
        loaded = load_by(
            name,
            threads=threads,
            speculate=speculate,
            ram=ram,
            cache_tokens=cache_tokens,
            io=io,
            approximate=approximate,
            profile=profile or None,
            profile_mode=profile_mode,
            adapter=adapter,
            max_batch=max_batch,
            country=country,
            prices=prices,
            tdp=tdp,
        )
        _note(budget_text(loaded.budget, loaded.experts))
        for line in profile_lines(loaded):
            _note(line)
        if approximate is not None:
            _note(approximation_text(loaded, approximate, _note))
    service = Service(loaded, settings)
    url = url_of(settings.host, listener.getsockname()[1])

    def tell() -> None:
        _note(ready_text(service, url, api_key_file))
        if as_json:
            _print_document(service, url)

    server_of(service, tell).run([listener])


def _begin_log() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("araio.serve").setLevel(logging.INFO)
    # Of each token for a client that has just gone it would write a line.
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _print_document(service: Service, url: str) -> None:
    budget = asdict(service.model.budget)
    document = {"url": url, "model": service.name, "pid": os.getpid(), "budget": budget}
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _port() -> int:
    text = env.get("ARAIO_PORT")
    if not text.isdecimal():
        raise RequestError(f"ARAIO_PORT is {text!r}; expected a number from 0 to 65535")
    return int(text)


def _limits(given: Sequence[str], queue: int | None) -> dict[str, Any]:
    """Limits as they were given, `NAME=NUMBER` each."""
    limits: dict[str, Any] = {} if queue is None else {"queue": queue}
    known = ranges()
    for entry in given:
        name, _, text = entry.partition("=")
        name = name.strip().replace("-", "_")
        if name not in known:
            raise RequestError(f"--limit {entry}: expected NAME=NUMBER with a name of {', '.join(known)}")
        try:
            limits[name] = float(text) if name.endswith("_s") else int(text)
        except ValueError:
            raise RequestError(f"--limit {entry}: {text!r} is no number") from None
    return limits
