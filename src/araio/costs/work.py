"""`Work`: what the engine did for one request, counted; `HeldBytes`: what it reads to do it.

All counts are whole numbers and none is estimated: experts are those that the routers chose, positions those
that attention saw. Read `engine/ledger.py` for who counts, `rates.py` for what a count is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["ExpertUses", "HeldBytes", "StreamedWork", "Work"]


@dataclass(frozen=True)
class HeldBytes:
    """A model's weights in memory, by how often they are read.

    dense   once a step
    head    once a step that computes scores
    row     of the embedding, once a token
    expert  once a step that uses it; one routed expert, the mean of all
    draft   the MTP module without its experts, once a step of it
    """

    dense: int
    head: int
    row: int
    expert: int
    draft: int


@dataclass
class ExpertUses:
    """What became of experts that layers asked for, where not all are in memory.

    An expert that several tokens of a step choose is one use.

    pinned      uses of experts that stay in memory whatever happens
    cached      uses of experts that lay in memory
    prefetched  uses of experts that were read, or being read, because they were foreseen
    missed      uses of experts whose reading began when they were needed
    """

    pinned: int = 0
    cached: int = 0
    prefetched: int = 0
    missed: int = 0

    def outcomes(self) -> dict[str, int]:
        """The four counts by their names."""
        return {name: getattr(self, name) for name in OUTCOMES}

    @property
    def uses(self) -> int:
        """Experts that were asked for."""
        return sum(self.outcomes().values())

    @property
    def hits(self) -> int:
        """Uses that did not have to begin a read."""
        return self.uses - self.missed

    @property
    def hit_share(self) -> float | None:
        """The same as a share; None if nothing was asked for."""
        return self.hits / self.uses if self.uses else None


OUTCOMES = tuple(field.name for field in fields(ExpertUses))


@dataclass
class StreamedWork(ExpertUses):
    """One request's share of what its steps asked for and read.

    disk_bytes  that were read
    disk_ns     nanoseconds in which the disk was busy
    """

    disk_bytes: int = 0
    disk_ns: int = 0

    @property
    def disk_bytes_per_s(self) -> float | None:
        """While the disk was busy; None if it never was."""
        return self.disk_bytes / self.disk_ns * 1e9 if self.disk_ns else None


@dataclass
class Work:
    """What was run for one request, with the main model or with its MTP module.

    tokens              that ran, wrong drafts among them
    scores              tokens whose scores over the vocabulary were computed
    absorbed            tokens that attended in the absorbed form; the others did in the expanded one
    absorbed_pairs      pairs of such a token and a position that it attended to
    expanded_pairs      the same of the others
    expanded_positions  positions whose keys and values were expanded, again in each chunk of a prompt
    expert_uses         pairs of a token and a routed expert that it was given to, over all layers
    weight_bytes        this request's share of the weights that its steps read, experts apart
    expert_bytes        the same of routed experts
    cache_bytes         of the latent cache that attention read
    """

    tokens: int = 0
    scores: int = 0
    absorbed: int = 0
    absorbed_pairs: int = 0
    expanded_pairs: int = 0
    expanded_positions: int = 0
    expert_uses: int = 0
    weight_bytes: int = 0
    expert_bytes: int = 0
    cache_bytes: int = 0

    @property
    def memory_bytes(self) -> int:
        """Everything that was read."""
        return self.weights_read + self.cache_bytes

    @property
    def weights_read(self) -> int:
        """Bytes of weights that were read, experts among them."""
        return self.weight_bytes + self.expert_bytes
