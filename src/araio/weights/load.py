"""Checkpoint or store to running model, under a budget of memory: all of it there, or its experts on disk.

What is stored is checked against its config before a weight is read, and the budget is divided before any
memory is taken. Read `formats/checkpoint.py` and `formats/store.py` for the files, `budget.py` for the parts,
`build.py` for the model and `residency.py` for experts that are not in memory.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from araio.codecs import codec
from araio.config import ModelConfig
from araio.disk.select import open_reader, require_io
from araio.errors import AdapterError, BudgetError, CheckpointError, ProfileError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import expected_tensors, expert_of, stays_float32
from araio.formats.manifest import MANIFEST_NAME
from araio.formats.store import Store
from araio.formats.store_layout import DENSE_FILE, ExpertRecord
from araio.kernels.ops import Ops
from araio.kernels.select import select
from araio.nn.model import Model
from araio.weights.adapted import Recoded, Stored, adapted
from araio.weights.adapter import Adapter
from araio.weights.budget import Budget, Needs, check_room, split
from araio.weights.build import ModelBuilder, bytes_held
from araio.weights.expert_files import expert_files
from araio.weights.habits import policy_for
from araio.weights.machine_memory import machine_memory
from araio.weights.policies import Habits, Policy
from araio.weights.pressure import Pressure
from araio.weights.residency import StreamedExperts
from araio.weights.slots import Slots
from araio.weights.usage import UsageFile

__all__ = ["Loaded", "Memory", "load_model", "open_checked", "open_model", "open_with_places"]

FLOAT32_BYTES = 4
LATENT_BYTES = 2  # of a number in the latent cache: bfloat16


@dataclass(frozen=True)
class Memory:
    """What a model may take, and how it is to use it.

    ram           bytes for the whole process; None takes what the machine can spare
    cache_tokens  of the latent cache; None takes a share of what is left
    io            how experts are read from disk, one of `disk.select.IO_CHOICES`
    pins          experts by layer that never leave memory once they are there
    prefers       experts by layer that leave only for what is clearly more likely to be used soon
    habits        what the policy of another run has learned, for this one to begin with
    drafts        keep the multi-token-prediction module even where experts come from disk, which costs more
                  reads than it saves steps
    gives_way     give memory back while others on the machine are short of it
    remembers     begin with the experts that were worth most when the model last ran, and keep what they are
                  worth now; a benchmark must not find what it left
    mask          id of the mask that every request is to have: with it other experts are worth keeping
    """

    ram: int | None = None
    cache_tokens: int | None = None
    io: str = "auto"
    pins: Mapping[int, Collection[int]] | None = None
    prefers: Mapping[int, Collection[int]] | None = None
    habits: Habits | None = None
    drafts: bool = False
    gives_way: bool = True
    remembers: bool = True
    mask: str | None = None


@dataclass(frozen=True)
class Loaded:
    """A model, what it may take, and where its experts come from; None where all are in memory.

    adapter  whose experts are in place of the model's own
    """

    network: Model
    budget: Budget
    experts: StreamedExperts | None
    adapter: Adapter | None = None


def load_model(folder: Path, ops: Ops | None = None) -> Model:
    """`open_model` with what memory there is, for who needs the network alone."""
    return open_model(folder, ops).network


def open_model(
    folder: Path, ops: Ops | None = None, memory: Memory = Memory(), adapter: Adapter | None = None
) -> Loaded:
    """Read a checkpoint folder, or as much of it as its memory holds.

    Weights stay as stored, except that bfloat16 becomes float32 for operations that are faster so, if the
    whole model then takes at most half of the memory, and fp8 does where they have no use for its blocks.
    Where the multi-token-prediction layer is absent as a whole, the model has none.

    folder   `config.json` and safetensors, as Hugging Face lays them out, or a store of `araio convert`
    ops      the operations to compute with; the best of this machine if None
    adapter  tuned experts to take in place of the folder's own

    Raises:
        ConfigError, FormatError, CheckpointError: what is stored is malformed or damaged, or does not fit
            together.
        BudgetError: it does not fit into memory, not even with its experts on disk.
        DiskError: a way of reading that is unknown, or that the file system has not.
        KernelError: `ARAIO_KERNELS` asks for a backend that cannot run here.
        AdapterError: the adapter is of another model, or the experts on disk are stored in another way than
            its own.
    """
    require_io(memory.io)  # also where nothing will be read
    ops = select().ops if ops is None else ops
    with open_checked(folder) as (config, stored), adapted(config, stored, adapter) as checkpoint:
        machine = machine_memory()  # not before the headers of all files have their place in it
        ram = machine.allowed if memory.ram is None else memory.ram
        if ram > machine.total:
            raise BudgetError(
                f"ram is {ram / 2**30:,.1f} GiB, and this machine, or the group that the process is in, has "
                f"{machine.total / 2**30:,.1f} GiB; give less, or nothing, for what it can spare"
            )
        for file in checkpoint.files:
            # A budget that somebody stated is meant to be all, with what the system keeps of our files.
            file.keeps_pages = memory.ram is None
        if not checkpoint.holds_mtp(config):
            # transformers saves V3 models without the module, yet leaves the config as it was.
            config = replace(config, num_nextn_predict_layers=0)
        widens = ops.wants_float32 and _fits_as_float32(config, ram)
        _check_pins(memory.pins or {}, config)
        config, budget, widens = _divide(checkpoint, config, ops, widens, ram, machine.used, memory)
        experts = None
        if budget.slots is not None:
            experts = _streamed(checkpoint, config, ops, budget.slots, memory)
        network = ModelBuilder(checkpoint, config, ops, widens, experts).model()
    if experts is not None:
        experts.warm_up()
    return Loaded(network, budget, experts, adapter)


def open_with_places(
    folder: Path, places: int, ops: Ops | None = None, memory: Memory = Memory()
) -> tuple[Model, StreamedExperts]:
    """The model with so many places for its experts, whatever memory there is: to measure what they do.

    It has no multi-token-prediction module. Two layers' worth of the places are for experts on their way.

    memory  how it is to use them; `ram` and `cache_tokens` say nothing here

    Raises as `open_model`.
    """
    with open_checked(folder) as (config, checkpoint):
        config = replace(config, num_nextn_predict_layers=0)
        _check_pins(memory.pins or {}, config)
        ops = select().ops if ops is None else ops
        experts = _streamed(checkpoint, config, ops, places, memory)
        network = ModelBuilder(checkpoint, config, ops, widens=False, streamed=experts).model()
    return network, experts


@contextmanager
def open_checked(folder: Path) -> Iterator[tuple[ModelConfig, Checkpoint | Store]]:
    """A folder's config and its open checkpoint or store, which fit together; no weight is read yet.

    Raises ConfigError, FormatError or CheckpointError if they do not.
    """
    config = ModelConfig.from_file(folder)
    quantization = config.quantization_config
    block = quantization.weight_block_size if quantization else (128, 128)
    if (folder / MANIFEST_NAME).exists():
        with Store(folder, config, block) as store:
            yield config, store
        return
    if (folder / DENSE_FILE).exists():
        raise CheckpointError(
            f"{folder}: is a store of `araio convert` without its {MANIFEST_NAME}; convert the model again"
        )
    with Checkpoint.open(folder, block) as checkpoint:
        checkpoint.check(config)
        yield config, checkpoint


def _fits_as_float32(config: ModelConfig, ram: int) -> bool:
    numbers = sum(math.prod(shape) for shape in expected_tensors(config).values())
    return numbers * FLOAT32_BYTES <= ram / 2


def _divide(
    checkpoint: Stored,
    config: ModelConfig,
    ops: Ops,
    widens: bool,
    ram: int,
    process: int,
    memory: Memory,
) -> tuple[ModelConfig, Budget, bool]:
    """The budget, the config of what it holds, and whether that is widened.

    What is widened is in memory as a whole; with experts on disk a model has no MTP module, unless it is to
    draft.
    """
    for is_widened in (True, False) if widens else (False,):
        needs = _needs(checkpoint, config, ops, is_widened)
        with suppress(BudgetError):  # said of the least that works, below
            budget = split(config, needs, ram, process, memory.cache_tokens)
            if budget.slots is None:
                return config, budget, is_widened
    if not memory.drafts:
        config = replace(config, num_nextn_predict_layers=0)
    needs = _needs(checkpoint, config, ops, widens=False)
    budget = split(config, needs, ram, process, memory.cache_tokens)
    pinned = sum(len(set(ids)) for ids in (memory.pins or {}).values())
    check_room(config, needs, budget, pinned, memory.cache_tokens)
    return config, budget, False


def _needs(checkpoint: Stored, config: ModelConfig, ops: Ops, widens: bool) -> Needs:
    dense = routed = record = 0
    for name, shape in expected_tensors(config).items():
        stored = codec("f32") if stays_float32(name, shape) else checkpoint.codec(name)
        size = bytes_held(stored, shape, ops, widens)
        if expert_of(name) is None:
            dense += size
            continue
        routed += size
        if record == 0:
            record = ExpertRecord(config, checkpoint.codec(name)).bytes
    layers = len(_routed_layers(config))
    cached_layers = config.num_hidden_layers + len(config.mtp_layers[:1])
    token = cached_layers * config.latent_dim * LATENT_BYTES
    experts = config.n_routed_experts
    policy = policy_for(experts).bytes(layers * experts, experts) if layers else 0
    return Needs(dense, token, record, routed, layers, policy)


def _routed_layers(config: ModelConfig) -> list[int]:
    return [*config.moe_layers, *filter(config.is_moe, config.mtp_layers[:1])]


def _streamed(
    checkpoint: Stored, config: ModelConfig, ops: Ops, slots: int, memory: Memory
) -> StreamedExperts:
    """The source of experts over so many places in memory."""
    if isinstance(checkpoint, Recoded):
        raise AdapterError(
            f"{checkpoint.folder}: does not fit into memory, and experts are read from disk as they are "
            "stored there, which is not as the adapter stores its own; put them together first, with "
            "`araio convert MODEL OUT --quant CODEC --adapter ADAPTER`, or give more --ram"
        )
    layers = _routed_layers(config)
    files = expert_files(checkpoint, config, layers)
    if not ops.holds_in_place(files.record.codec):
        raise CheckpointError(
            f"{checkpoint.folder}: its experts have FP8 blocks of a size that is not computed with as they "
            "are stored; make a store of it with `araio convert`, or give it --ram for all of it"
        )
    reader = open_reader(memory.io)
    for path in files.paths:
        reader.add(path)
    experts = config.n_routed_experts
    policy = policy_for(experts)(len(layers) * experts, experts)
    if memory.habits is not None:
        try:
            policy.adopt(memory.habits)
        except ValueError as error:
            raise ProfileError(f"what the profile says of habits {error}; fit it again") from None
    places, pins, prefers = Slots(files.record, slots, ops), memory.pins or {}, memory.prefers or {}
    pressure = Pressure() if memory.gives_way else None
    source = StreamedExperts(files, reader, places, policy, layers, experts, pins, prefers, pressure)
    if not memory.remembers:
        return source
    kept = {layer: {*pins.get(layer, ()), *prefers.get(layer, ())} for layer in {*pins, *prefers}}
    usage = UsageFile(checkpoint.folder, files.paths, kept, (len(layers), experts), memory.mask)
    # Also when the process ends; it must not keep the experts alive.
    weakref.finalize(source, _keep_usage, usage, policy)
    if (worth := usage.read()) is not None:
        policy.remember(worth)
    return source


def _keep_usage(usage: UsageFile, policy: Policy) -> None:
    worth = policy.lasting()
    if worth.any():
        usage.write(worth)


def _check_pins(pins: Mapping[int, Collection[int]], config: ModelConfig) -> None:
    layers = _routed_layers(config)
    for layer, ids in pins.items():
        wrong = [expert for expert in ids if not 0 <= expert < config.n_routed_experts]
        if layer not in layers or wrong:
            raise BudgetError(
                f"pins name layer {layer}, experts {wrong or sorted(ids)}; the model has experts 0 to "
                f"{config.n_routed_experts - 1} in layers {layers[0]} to {layers[-1]}"
                if layers
                else f"pins name layer {layer}; the model has no routed experts"
            )
