"""`savings`: what a profile saves: bytes of a smaller model, and reads where experts come from disk.

The second changes no answer, since every expert is still there; so it is measured on the text that the whole
model wrote, token by token as in decoding, with as many places in memory as the kept experts need: once with
the profile pinned, and once without it. Both begin with empty memory, and the first half of the text does not
count. Read `weights/prune.py` for the smaller model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

from araio.adapt.answers import Asked
from araio.api import Model
from araio.errors import BudgetError
from araio.expert_profile import ExpertProfile
from araio.meters.meter import Meter
from araio.nn.kv_cache import LatentCache
from araio.nn.model import Model as Network
from araio.tensors import Float32Array
from araio.weights.load import Memory, open_with_places
from araio.weights.locate import locate
from araio.weights.machine_memory import machine_memory
from araio.weights.prune import exported_bytes
from araio.weights.residency import StreamedExperts

__all__ = ["MOST_SEQUENCES", "Savings", "Streamed", "measure_streamed", "savings"]

MOST_SEQUENCES = 16
"""Answers that are decoded again, in each of two ways."""


@dataclass(frozen=True)
class Streamed:
    """Of so many decoded tokens.

    hit_share       uses of experts that did not have to begin a read
    bytes_per_token  read from disk
    joules_per_token, joules_method  as the machine counts or models them
    is_same_text    the most likely token was everywhere the one that the whole model wrote
    """

    tokens: int
    hit_share: float | None
    bytes_per_token: float
    tok_per_s: float
    joules_per_token: float
    joules_method: str
    is_same_text: bool


@dataclass(frozen=True)
class Savings:
    """Bytes of weights with all experts and with the kept ones, those that every token needs included.

    whole_disk_bytes, kept_disk_bytes  of the checkpoint and of an export; None where nothing can be exported
    places    for experts, where they are streamed
    pinned, unpinned  None where the machine has not the memory to try; `reason` says so
    """

    whole_bytes: int
    kept_bytes: int
    whole_disk_bytes: int | None
    kept_disk_bytes: int | None
    places: int
    pinned: Streamed | None
    unpinned: Streamed | None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in a profile's evaluation."""
        return asdict(self)


def savings(
    model: Model,
    profile: ExpertProfile,
    asked: Sequence[Asked],
    on_sequence: Callable[[], None] = lambda: None,
) -> Savings:
    """Count bytes, and decode what the whole model answered with the kept experts pinned and without.

    asked        at least two answers; the first `MOST_SEQUENCES` are used
    on_sequence  called after each of them, in each of the two ways

    Raises:
        FormatError, CheckpointError, DiskError: the model's files cannot be read.
    """
    expert = model.network.held.expert
    all_of_them = model.config.n_routed_experts * len(profile.keep)
    whole, kept = (model.budget.dense + expert * count for count in (all_of_them, profile.experts))
    # Beside those that stay, two layers' worth are on their way.
    places = min(profile.experts + 2 * model.config.num_experts_per_tok, all_of_them)
    folder = locate(model.name)
    whole_disk, kept_disk = exported_bytes(folder, profile) or (None, None)
    needed = model.budget.dense + expert * places
    if needed > machine_memory().allowed:
        reason = f"trying it takes {needed / 2**30:,.1f} GiB beside the model that is loaded"
        return Savings(whole, kept, whole_disk, kept_disk, places, None, None, reason)
    texts = asked[:MOST_SEQUENCES]
    try:
        unpinned = measure_streamed(model, places, None, texts, on_sequence)
        pinned = measure_streamed(model, places, profile, texts, on_sequence)
    except BudgetError as error:
        return Savings(whole, kept, whole_disk, kept_disk, places, None, None, str(error))
    return Savings(whole, kept, whole_disk, kept_disk, places, pinned, unpinned)


def measure_streamed(
    model: Model,
    places: int,
    profile: ExpertProfile | None,
    asked: Sequence[Asked],
    on_sequence: Callable[[], None],
) -> Streamed:
    """Decode texts with so many places for experts, the second half of them counted.

    profile  that is pinned, if any
    """
    memory = Memory(gives_way=False, remembers=False)
    if profile is not None:
        memory = replace(memory, prefers=profile.keep, habits=profile.habits)
    network, experts = open_with_places(locate(model.name), places, model.network.ops, memory)
    replay = _Replay(network, experts, model.engine.meter)
    for place, one in enumerate(asked):
        replay.counts = 2 * place >= len(asked)
        replay.run(one)
        on_sequence()
    return replay.result()


class _Replay:
    """Decodes given text and adds up what that takes.

    counts  what is decoded now
    """

    def __init__(self, network: Network, experts: StreamedExperts, meter: Meter) -> None:
        self._network, self._experts, self._meter = network, experts, meter
        self.counts = False
        self._tokens = self._hits = self._uses = self._bytes = 0
        self._seconds = self._joules = 0.0
        self._method = meter.method
        self._is_same = True

    def run(self, one: Asked) -> None:
        """One answer: its prompt at once, then its tokens one by one."""
        network, ids = self._network, one.ids
        cache = LatentCache(network.new_pool(len(ids)))
        hidden = network.forward(ids[: one.prompt_tokens], cache)[-1:]
        before, mark, begun_s = self._experts.counters.copy(), self._meter.mark(), perf_counter()
        for place in range(one.prompt_tokens, len(ids) - 1):
            self._is_same &= self._writes(hidden, ids[place])
            hidden = network.forward(ids[place : place + 1], cache, absorbed=True)
        self._is_same &= self._writes(hidden, ids[-1])
        if not self.counts:
            return
        energy = self._meter.between(mark, self._meter.mark())
        used = self._experts.counters.since(before)
        self._tokens += len(ids) - 1 - one.prompt_tokens
        self._seconds += perf_counter() - begun_s
        self._joules, self._method = self._joules + energy.joules, energy.method
        self._hits, self._uses = self._hits + used.hits, self._uses + used.uses
        self._bytes += used.read_bytes

    def _writes(self, hidden: Float32Array, token: int) -> bool:
        """Whether this is the most likely token."""
        return bool(self._network.logits(hidden)[0].argmax() == token)

    def result(self) -> Streamed:
        """What was counted."""
        tokens = max(1, self._tokens)
        return Streamed(
            self._tokens,
            self._hits / self._uses if self._uses else None,
            self._bytes / tokens,
            self._tokens / self._seconds if self._seconds else 0.0,
            self._joules / tokens,
            self._method,
            self._is_same,
        )
