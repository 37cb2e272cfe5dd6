"""`load`: from a name or a folder, and what may be said of memory and threads, to a `Model`.

Whatever is wrong with what was asked is told before anything large is read. Read `model.py` for what comes
of it, `weights/load.py` for the weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from araio import env
from araio.config import ModelConfig
from araio.engine.request import read_generation_defaults, read_stop_ids
from araio.engine.speculate import Speculate, check_speculate
from araio.errors import CheckpointError, RequestError
from araio.kernels.select import select
from araio.meters.meter import choose_meter
from araio.nn.approximations import approximation
from araio.quantities import parse_bytes
from araio.text.chat import ChatFormat
from araio.text.tokenizer import Tokenizer
from araio.weights.load import Memory, open_model
from araio.weights.locate import locate

if TYPE_CHECKING:
    from araio.costs.tariff import Tariff
from araio.api.model import Model

__all__ = ["load"]


def load(
    name: str | Path = "pocket",
    *,
    threads: int | None = None,
    speculate: Speculate | None = None,
    ram: int | str | None = None,
    cache_tokens: int | None = None,
    io: str | None = None,
    pins: Mapping[int, Collection[int]] | None = None,
    approximate: str | None = None,
    max_batch: int = 16,
    country: str | None = None,
    prices: str | None = None,
    tdp: float | None = None,
) -> Model:
    """Load a model: "pocket", which comes with araio, or the folder of a checkpoint or a store.

    A model that is larger than its memory runs with its experts on disk, and gives the same text.

    threads    that the compiled kernels use from now on, in the whole process; None reads `ARAIO_THREADS`,
               whose default is every processor
    speculate  draft tokens with the model's prediction module, which changes the speed and never the text:
               "on", "off", or "auto", where it pays; None reads `ARAIO_SPECULATE`
    ram        for the whole process, in bytes or as in "6GiB"; None reads `ARAIO_RAM`, whose default is what
               the machine can spare
    cache_tokens  that all conversations together may hold; None takes a share of what is left
    io         how experts are read from disk: "direct", past the page cache, "uring", so by Linux' io_uring,
               "buffered", or "auto", direct where the file system can do it; None reads `ARAIO_IO`
    pins       experts by layer that stay in memory once they are there
    approximate  choose other experts than the model's own router would, for less work: "top-N", N of them for
               each token, or "cached", those in memory before others that are nearly as good. Answers change;
               `eval.approximation` measures how much. None is exact
    max_batch  requests that run together; more of them wait
    country    whose electricity receipts count grams of; `costs.tariff.choose_tariff` says what can be said
    prices     by which receipts count money; the same
    tdp        watts of the processor for the energy model; `meters.modelled.estimate_power` says of what

    Raises:
        ModelNotFoundError: `name` is neither bundled nor a folder with a checkpoint.
        CheckpointError, ConfigError, TextError: the folder's files are damaged or not supported.
        BudgetError: `ram` is too little, not even with all experts on disk; it says what is enough.
        DiskError: an `io` that is none, or that the file system cannot do.
        KernelError: a number of threads, or a setting of `ARAIO_KERNELS`, that cannot run here.
        RequestError: `speculate`, or `ARAIO_SPECULATE`, is none of the three; `ram` is no size, or
            `cache_tokens` are none; the model has no such approximation.
        CostError: a country, a price list or watts that nothing can be counted with.
    """
    mode = check_speculate(env.get("ARAIO_SPECULATE") if speculate is None else speculate)
    memory = _memory(ram, cache_tokens, io, pins, drafts=mode == "on")
    meter, tariff = choose_meter(tdp=tdp), _tariff(str(name), country, prices)
    ops = select(threads=threads).ops
    folder = locate(str(name))
    tokenizer = Tokenizer.from_folder(folder)
    config = ModelConfig.from_file(folder)
    _check_vocabulary(folder, tokenizer, config)
    # A mistake in its name is told before anything large is read.
    approximation(approximate, config, ops, None)
    loaded = open_model(folder, ops, memory)
    return Model(
        str(name),
        loaded,
        tokenizer,
        ChatFormat.from_folder(folder, tokenizer),
        read_generation_defaults(folder),
        read_stop_ids(folder, config.vocab_size),
        mode,
        meter,
        tariff,
        approximation(approximate, config, ops, loaded.experts),
        max_batch,
    )


def _tariff(name: str, country: str | None, prices: str | None) -> Tariff | None:
    """What was asked for, before a large model is loaded; else the first token need not wait for a table."""
    if {country, prices} == {None} and not env.is_set("ARAIO_COUNTRY") and not env.is_set("ARAIO_PRICES"):
        return None
    from araio.costs.tariff import choose_tariff

    return choose_tariff(name, country, prices)


def _check_vocabulary(folder: Path, tokenizer: Tokenizer, config: ModelConfig) -> None:
    # An embedding may have rows to spare, a tokenizer may not have tokens without a row.
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{folder}: tokenizer.json has {tokenizer.vocab_size} tokens, but config.json has vocab_size = "
            f"{config.vocab_size}; the two files belong to different models"
        )


def _memory(
    ram: int | str | None,
    cache_tokens: int | None,
    io: str | None,
    pins: Mapping[int, Collection[int]] | None,
    drafts: bool,
) -> Memory:
    """What was asked for, or else what the environment says."""
    size: int | str = env.get("ARAIO_RAM") if ram is None else ram
    if isinstance(size, str):
        name = "ARAIO_RAM" if ram is None else "ram"
        size = 0 if size == "auto" and ram is None else parse_bytes(name, size)
    elif not _is_count(size):
        raise RequestError(f"ram is {size}; expected a whole number of bytes, or a size such as '6GiB'")
    if cache_tokens is not None and not _is_count(cache_tokens):
        raise RequestError(f"cache_tokens is {cache_tokens}; expected a whole number from 1 on")
    return Memory(size or None, cache_tokens, env.get("ARAIO_IO") if io is None else io, pins, drafts)


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1
