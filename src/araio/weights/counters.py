"""`StreamCounters`: what became of each expert that a layer asked for, and what was read for it.

They only ever grow, so whoever wants the figures of a while takes the difference of two copies.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from araio.costs.work import ExpertUses

__all__ = ["StreamCounters"]


@dataclass
class StreamCounters(ExpertUses):
    """Counts since loading.

    reads          of experts, from disk
    read_bytes     that files gave for them
    unused_bytes   of foreseen experts that left again without ever having been used
    wait_s         seconds in which nothing could be computed, for the next expert had not arrived
    busy_s         seconds in which at least one read was running
    """

    reads: int = 0
    read_bytes: int = 0
    unused_bytes: int = 0
    wait_s: float = 0.0
    busy_s: float = 0.0

    def samples(self) -> dict[str, float]:
        """The counts as Prometheus has them, one for each line of its text format.

        araio_experts_total{outcome="..."}  uses of experts: pinned, cached, prefetched, missed
        araio_expert_reads_total            experts read from disk
        araio_expert_read_bytes_total       that files gave for them
        araio_expert_unused_bytes_total     read ahead for nothing
        araio_expert_wait_seconds_total     in which nothing could be computed
        araio_expert_busy_seconds_total     in which at least one read was running
        """
        uses = {f'araio_experts_total{{outcome="{name}"}}': count for name, count in self.outcomes().items()}
        return {
            **uses,
            "araio_expert_reads_total": self.reads,
            "araio_expert_read_bytes_total": self.read_bytes,
            "araio_expert_unused_bytes_total": self.unused_bytes,
            "araio_expert_wait_seconds_total": self.wait_s,
            "araio_expert_busy_seconds_total": self.busy_s,
        }

    def copy(self) -> StreamCounters:
        """The counts of this moment."""
        return replace(self)

    def since(self, earlier: StreamCounters) -> StreamCounters:
        """What has been added to an earlier copy."""
        names = [field.name for field in fields(self)]
        return StreamCounters(**{name: getattr(self, name) - getattr(earlier, name) for name in names})
