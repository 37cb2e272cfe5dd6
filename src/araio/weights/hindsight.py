"""`Hindsight`: what decoding has read from disk, beside the least that it could have read.

No policy knows what the next tokens will need. Afterwards it is known, and so is how few reads would have
done (Belady's rule, `simulate.py`): whoever sees both knows whether a better policy could help at all, or
only more memory or fewer bits.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np

from araio.kernels.ops import Int32Array
from araio.nn.model import Model
from araio.tensors import Float32Array
from araio.weights.residency import StreamedExperts
from araio.weights.simulate import belady

__all__ = ["Hindsight"]

# Uses of experts that are looked back on: 1,900 tokens of DeepSeek-V2-Lite, 650 of R1. The optimum of so many
# takes half a second, and some 15 MB for a moment.
MOST_USES = 300_000


class Hindsight:
    """A context in which the routes of single tokens, so of one sequence's decoding, are recorded."""

    def __init__(self, model: Model, experts: StreamedExperts) -> None:
        self._model, self._experts = model, experts
        self._layers = model.config.moe_layers
        self._most = MOST_USES // model.config.num_experts_per_tok // len(self._layers) * len(self._layers)
        self._routes: list[Int32Array] = []
        self._start: list[int] = []
        self._before = self._read_bytes = 0

    def __enter__(self) -> Self:
        self._earlier, self._model.on_route = self._model.on_route, self._record
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model.on_route = self._earlier
        if 0 < len(self._routes) < self._most:
            self._read_bytes = self._experts.counters.read_bytes - self._before

    def read_per_token(self) -> tuple[float, float] | None:
        """Bytes that were read for each decoded token, and that would have been enough; None of no token."""
        width = len(self._layers)
        tokens = len(self._routes) // width
        if tokens == 0:
            return None
        routes = np.stack(self._routes[: tokens * width]).reshape(tokens, width, -1)
        misses = belady(routes, self._model.config.n_routed_experts, self._experts.held, self._start)
        return self._read_bytes / tokens, float(misses.sum()) * self._experts.record_bytes / tokens

    def _record(self, layer: int, ids: Int32Array, weights: Float32Array) -> None:
        if len(ids) != 1 or layer not in self._layers or len(self._routes) == self._most:
            return
        if not self._routes:
            self._start, self._before = self._experts.in_memory, self._experts.counters.read_bytes
        self._routes.append(ids[0])
        if len(self._routes) == self._most:
            self._read_bytes = self._experts.counters.read_bytes - self._before
