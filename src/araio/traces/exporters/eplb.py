"""The load of experts as deepseek-ai/EPLB takes it: the weight (layers, experts) of `rebalance_experts`.

Everything that ran is load, what was thrown away too. Read `sglang.py` for the same with a name and a step.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.exporters.staged import staged
from araio.traces.trace import Trace

__all__ = ["load", "write_eplb"]


def load(trace: Trace) -> npt.NDArray[np.int64]:
    """(L, E): tokens of all domains and phases that chose an expert."""
    total: npt.NDArray[np.int64] = trace.counts.n.sum(axis=(0, 1)).astype(np.int64)
    return total


def write_eplb(trace: Trace, path: Path) -> None:
    """Write the load as an array, .npy, or as a list of lists, .json; raises TraceError."""
    weight = load(trace)
    if path.suffix not in (".npy", ".json"):
        raise TraceError(f"{path}: EPLB's weights are written as .npy or .json; give it one of these endings")
    with staged(path) as written:
        if path.suffix == ".npy":
            np.save(written, weight, allow_pickle=False)
        else:
            written.write_text(json.dumps(weight.tolist()) + "\n", encoding="utf-8")
