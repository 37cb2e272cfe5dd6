"""`ExpertCounts`: how often each expert was chosen, since the server began and of late.

The engine tells of every step, in its own thread; the event loop reads. A recording is a stretch of time
whose counts are kept apart, as SGLang has it; each key has its own. Read `expert_routes.py` for who shows
them.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.config import ModelConfig
from araio.engine.watch import EngineStep

__all__ = ["ExpertCounts"]

HALF_LIFE_TOKENS = 512.0
"""After so many tokens a choice counts half, of late."""


class ExpertCounts:
    """Those of one model.

    layers   numbers of the M routed layers
    domains  which domain each expert serves, if that is known; see `recordings.domains_of`
    """

    def __init__(self, config: ModelConfig, domains: dict[str, Any] | None = None) -> None:
        self._domains = domains
        self.layers = list(config.moe_layers)
        self._n_experts = config.n_routed_experts if self.layers else 0
        self._top_k = config.num_experts_per_tok if self.layers else 0
        shape = (len(self.layers), self._n_experts)
        self._lock = Lock()
        self._tokens = 0
        self._counts = np.zeros(shape, np.int64)
        self._recent = np.zeros(shape, np.float64)
        self._since: dict[str, tuple[int, npt.NDArray[np.int64]]] = {}
        self._recorded: dict[str, tuple[int, npt.NDArray[np.int64]]] = {}

    def record(self, step: EngineStep) -> None:
        """One step of the engine; called in its thread."""
        if not step.experts:
            return
        tokens = len(step.experts[0])
        found = np.stack([np.bincount(ids.ravel(), minlength=self._n_experts) for ids in step.experts])
        with self._lock:
            self._tokens += tokens
            self._counts += found
            self._recent *= 0.5 ** (tokens / HALF_LIFE_TOKENS)
            self._recent += found

    def by_layer(self) -> tuple[list[int], npt.NDArray[np.int64]]:
        """Numbers of the M layers, and the tokens (M, E) that each of their experts was given so far."""
        with self._lock:
            return self.layers, self._counts.copy()

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        with self._lock:
            return {
                **self._document(self._tokens, self._counts),
                "recent": self._recent.round(2).tolist(),
                "domains": self._domains,
            }

    def start(self, holder: str) -> None:
        """Begin the recording of whoever asks; one that runs begins anew, and others' go on."""
        with self._lock:
            self._since[holder] = self._tokens, self._counts.copy()

    def stop(self, holder: str) -> bool:
        """End their recording; False if none runs."""
        with self._lock:
            if holder not in self._since:
                return False
            self._recorded[holder] = self._so_far(holder)
            del self._since[holder]
            return True

    def recording(self, holder: str) -> dict[str, Any]:
        """What was recorded for them: the stretch that runs, or else the last one."""
        with self._lock:
            is_recording = holder in self._since
            nothing = 0, np.zeros_like(self._counts)
            tokens, counts = self._so_far(holder) if is_recording else self._recorded.get(holder, nothing)
            return {"is_recording": is_recording, **self._document(tokens, counts)}

    def _so_far(self, holder: str) -> tuple[int, npt.NDArray[np.int64]]:
        tokens, counts = self._since[holder]
        return self._tokens - tokens, self._counts - counts

    def _document(self, tokens: int, counts: npt.NDArray[np.int64]) -> dict[str, Any]:
        return {
            "layers": self.layers,
            "n_experts": self._n_experts,
            "top_k": self._top_k,
            "tokens": tokens,
            "counts": counts.tolist(),
        }
