"""`load`: from a name or a folder, and what may be said of memory and threads, to a `Model`.

Whatever is wrong with what was asked is told before anything large is read. Read `model.py` for what comes
of it, `weights/load.py` for the weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from araio import env
from araio.api.model import Model
from araio.config import ModelConfig
from araio.engine.request import read_generation_defaults, read_stop_ids
from araio.engine.speculate import Speculate, check_speculate
from araio.errors import CheckpointError, RequestError
from araio.expert_profile import ExpertProfile
from araio.kernels.select import select
from araio.meters.meter import choose_meter
from araio.nn.approximations import approximation
from araio.quantities import parse_bytes
from araio.text.chat import ChatFormat
from araio.text.tokenizer import Tokenizer
from araio.weights.adapter import Adapter
from araio.weights.load import Memory, open_model
from araio.weights.locate import locate

if TYPE_CHECKING:
    from araio.costs.tariff import Tariff

__all__ = ["ProfileMode", "load"]

ProfileMode: TypeAlias = Literal["pin", "mask"]
"""What a profile does to every answer: nothing, only reads become fewer; or no others answer."""

GivenProfile: TypeAlias = str | Path | ExpertProfile
"""A profile, or the file of one."""


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
    profile: GivenProfile | Sequence[GivenProfile] | None = None,
    profile_mode: ProfileMode = "pin",
    adapter: str | Path | None = None,
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
    pins       experts by layer that never leave memory once they are there
    approximate  choose other experts than the model's own router would, for less work: "top-N", N of them for
               each token, or "cached", those in memory before others that are nearly as good. Answers change;
               `eval.approximation` measures how much. None is exact
    profile    a profile of this model, its file, or several of them. A request may ask for each by its name
               and is then answered by its experts alone; the first is used as `profile_mode` says
    profile_mode  "pin": its experts stay in memory unless others are clearly more likely to be used soon, and
               the cache begins with what it learned when the profile was fitted; answers are as without.
               Where all experts are in memory there is nothing to do. "mask": every request that asks for no
               other is answered by its experts alone
    adapter    the folder of an adapter of `araio tune`, whose experts take the place of the model's own
    max_batch  requests that run together; more of them wait
    country    whose electricity receipts count grams of; `costs.tariff.choose_tariff` says what can be said
    prices     by which receipts count money; the same
    tdp        watts of the processor for the energy model; `meters.modelled.estimate_power` says of what

    Raises:
        ModelNotFoundError: `name` is neither bundled nor a folder with a checkpoint.
        CheckpointError, ConfigError, TextError: the folder's files are damaged or not supported.
        BudgetError: `ram` is too little, not even with all experts on disk, or for those that are to stay; it
            says what is enough.
        DiskError: an `io` that is none, or that the file system cannot do.
        KernelError: a number of threads, or a setting of `ARAIO_KERNELS`, that cannot run here.
        ProfileError: a profile that is malformed, of another model, or that keeps too few experts.
        AdapterError: an adapter that is damaged or of another model, or whose experts cannot be read from
            disk as the model's are.
        RequestError: `speculate`, or `ARAIO_SPECULATE`, is none of the three; `ram` is no size, or
            `cache_tokens` are none; the model has no such approximation, or is to have a mask beside it.
        CostError: a country, a price list or watts that nothing can be counted with.
    """
    mode = check_speculate(env.get("ARAIO_SPECULATE") if speculate is None else speculate)
    profiles = _profiles(profile)
    _check_profile_mode(profile_mode, profiles, approximate)
    memory = _memory(ram, cache_tokens, io, pins, drafts=mode == "on")
    if profiles and profile_mode == "pin":
        memory = _pinning(memory, profiles[0])
    if profiles and profile_mode == "mask":
        memory = replace(memory, mask=profiles[0].id)
    meter, tariff = choose_meter(tdp=tdp), _tariff(str(name), country, prices)
    ops = select(threads=threads).ops
    folder = locate(str(name))
    tokenizer = Tokenizer.from_folder(folder)
    config = ModelConfig.from_file(folder)
    _check_vocabulary(folder, tokenizer, config)
    # A mistake in a name or a profile is told before anything large is read.
    approximation(approximate, config, ops, None)
    for each in profiles:
        each.check(config)
    loaded = open_model(folder, ops, memory, None if adapter is None else Adapter.open(adapter))
    model = Model(
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
    for each in profiles:
        model.profiles.add(each)
    if profiles and profile_mode == "mask":
        model.profiles.use_by_default(profiles[0].name)
    return model


def _profiles(given: GivenProfile | Sequence[GivenProfile] | None) -> list[ExpertProfile]:
    every = [] if given is None else [given] if isinstance(given, str | Path | ExpertProfile) else given
    return [each if isinstance(each, ExpertProfile) else ExpertProfile.from_file(each) for each in every]


def _check_profile_mode(mode: str, profiles: Sequence[ExpertProfile], approximate: str | None) -> None:
    if mode not in ("pin", "mask"):
        raise RequestError(f"profile_mode is {mode!r}; expected pin or mask")
    if mode == "mask" and not profiles:
        raise RequestError("profile_mode is 'mask' without a profile; give the profile, too")
    if mode == "mask" and approximate is not None:
        raise RequestError(
            f"the model is to run with a mask, of profile {profiles[0].name!r}, and with --approximate "
            f"{approximate}: both change which experts answer, and what they cost together is not known; "
            "leave one of them out"
        )


def _pinning(memory: Memory, profile: ExpertProfile) -> Memory:
    if memory.pins is not None:
        raise RequestError(
            f"both pins and profile {profile.name!r} say which experts stay in memory; leave one of them out"
        )
    return replace(memory, prefers=profile.keep, habits=profile.habits)


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
    return Memory(size or None, cache_tokens, env.get("ARAIO_IO") if io is None else io, pins, drafts=drafts)


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1
