"""What sparsity saves at which batch: bytes that are counted, and joules that others measured.

A token of DeepSeek-R1 takes about a tenth of the operations of one of Llama-3.1-405B, at any batch. Its bytes
are fewer only while a batch leaves most experts untouched. Energy follows the bytes where reading them takes
the time, and the operations again at the largest batches.
"""

from __future__ import annotations

from dataclasses import dataclass

from araio.config import ModelConfig
from araio.costs.dense import find_dense_model
from araio.costs.traffic import decode_bytes, expected_experts

__all__ = ["BatchRow", "sparsity_by_batch"]

DENSE = "llama-3.1-405b"
DENSE_BITS = 8
# ML.ENERGY leaderboard, 2026-02-27, chat, FP8 on B200s: joules per output token of DeepSeek-V3.1 on eight
# GPUs and of Llama-3.1-405B on four, by batch.
MEASURED_J = {
    8: (8.566, 12.985),
    64: (2.920, 2.561),
    128: (1.936, 1.774),
    256: (1.309, 1.355),
    512: (0.964, 1.147),
}
BATCHES = (1, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class BatchRow:
    """One batch.

    experts        distinct ones that a layer touches under uniform routing
    sparse, dense  bytes of weights per token
    measured_j     joules per token of each, None where nobody measured
    """

    batch: int
    experts: float
    sparse: float
    dense: float
    measured_j: tuple[float, float] | None


def sparsity_by_batch(config: ModelConfig) -> tuple[BatchRow, ...]:
    """A mixture of experts beside Llama-3.1-405B in FP8, caches left out."""
    return tuple(_row(config, batch) for batch in BATCHES)


def _row(config: ModelConfig, batch: int) -> BatchRow:
    step = decode_bytes(config, batch, context=1)
    dense_bytes = find_dense_model(DENSE).active_parameters * DENSE_BITS / 8
    return BatchRow(
        batch,
        expected_experts(config.n_routed_experts, config.num_experts_per_tok, batch),
        (step.dense + step.experts) / batch,
        dense_bytes / batch,
        MEASURED_J.get(batch),
    )
