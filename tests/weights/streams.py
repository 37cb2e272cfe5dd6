"""Models over a number of places that a test chooses, and what must be true of their bookkeeping."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from araio.codecs import codec
from araio.disk.reader import Reader
from araio.disk.select import open_reader
from araio.formats.checkpoint import Checkpoint
from araio.formats.write import write_checkpoint
from araio.kernels.ops import Ops
from araio.kernels.select import select
from araio.kernels.widen import widen
from araio.nn.model import Model
from araio.tensors import BFloat16, Float32Array, Weight
from araio.weights.build import ModelBuilder
from araio.weights.expert_files import expert_files
from araio.weights.load import open_checked
from araio.weights.policies import Forecast, Policy
from araio.weights.residency import NOBODY, StreamedExperts
from araio.weights.slots import Slots

Wrap = Callable[[Reader], Reader]


def streamed(
    folder: Path,
    slots: int,
    *,
    ops: Ops | None = None,
    wrap: Wrap = lambda reader: reader,
    io: str = "auto",
    pins: Mapping[int, Collection[int]] | None = None,
    policy: Callable[[int, int], Policy] = Forecast,
) -> tuple[Model, StreamedExperts]:
    """A model, its MTP module included, whose experts have so many places in memory."""
    ops = select().ops if ops is None else ops
    with open_checked(folder) as (config, checkpoint):
        layers = [*config.moe_layers, *filter(config.is_moe, config.mtp_layers[:1])]
        files = expert_files(checkpoint, config, layers)
        reader = wrap(open_reader(io))
        for path in files.paths:
            reader.add(path)
        experts = config.n_routed_experts
        source = StreamedExperts(
            files,
            reader,
            Slots(files.record, slots, ops),
            policy(len(layers) * experts, experts),
            layers,
            experts,
            pins,
        )
        model = ModelBuilder(checkpoint, config, ops, widens=False, streamed=source).model()
    return model, source


def bits(values: Float32Array) -> np.ndarray:
    """What two results must share to be the same, zeros and all."""
    return np.ascontiguousarray(values).view(np.uint32)


def scores(model: Model, ids: Sequence[int], chunk: int, prompt: int) -> np.ndarray:
    """Bits of the logits (T, W) of a sequence: `prompt` tokens in chunks, then one by one, absorbed."""
    cache, array = model.new_cache(), np.asarray(ids)
    stops = [*range(chunk, prompt, chunk), *range(prompt, len(ids) + 1)]
    rows = [
        model.forward(array[start:stop], cache, absorbed=stop > prompt)
        for start, stop in pairwise([0, *stops])
    ]
    return bits(model.logits(np.concatenate(rows)))


def check(source: StreamedExperts) -> None:
    """What holds between any two calls."""
    slot_of, key_of, is_ready = source._slot_of, source._key_of, source._is_ready
    placed = np.flatnonzero(slot_of != NOBODY)
    used = np.flatnonzero(key_of != NOBODY)
    np.testing.assert_array_equal(key_of[slot_of[placed]], placed)
    np.testing.assert_array_equal(slot_of[key_of[used]], used)
    assert not is_ready[key_of == NOBODY].any()
    free = source._free + source._lent
    assert len(set(free)) == len(free)
    assert not set(free) & set(used.tolist())
    assert len(free) + len(used) == len(key_of)  # no place is lost
    on_the_way = {int(key_of[slot]) for slot in used if not is_ready[slot]}
    assert on_the_way == source._in_flight
    counts = source.counters
    assert min(counts.pinned, counts.cached, counts.prefetched, counts.missed, counts.unused_bytes) >= 0


def stored_as(source: Path, target: Path, how: str, block: tuple[int, int] = (128, 128)) -> Path:
    """A published checkpoint again, its matrices that are bfloat16 now in another type."""
    target.mkdir()
    for path in source.iterdir():
        if not path.name.endswith((".safetensors", ".index.json")):
            (target / path.name).write_bytes(path.read_bytes())

    def tensors() -> Iterator[tuple[str, Weight]]:
        with Checkpoint.open(source, block) as checkpoint:
            for name in checkpoint:
                if not name.endswith("_scale_inv"):
                    weight = checkpoint.read_weight(name)
                    yield name, codec(how).encode(widen(weight)) if isinstance(weight, BFloat16) else weight

    write_checkpoint(target, tensors(), max_shard_bytes=1 << 20)
    return target
