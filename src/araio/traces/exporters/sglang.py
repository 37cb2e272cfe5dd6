"""The counts of a trace as SGLang takes them: `--init-expert-location FILE.json` with `logical_count`.

It is (steps, layers, experts) with a row for every layer of the model, dense ones too, which hold zeros. Read
`importers/sglang.py` for the way back.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.exporters.eplb import load
from araio.traces.exporters.staged import staged
from araio.traces.trace import Trace

__all__ = ["logical_count", "write_logical_count"]


def logical_count(trace: Trace) -> npt.NDArray[np.int64]:
    """(1, layers, E): one step that is the whole trace; raises TraceError where layers have no numbers."""
    if not trace.header.layers:
        raise TraceError("the trace does not say which layers its routes are of; SGLang counts all layers")
    # In every published model the last layer routes, so the layers end with it.
    counts = np.zeros((1, trace.header.layers[-1] + 1, trace.header.n_routed_experts), np.int64)
    counts[0, list(trace.header.layers)] = load(trace)
    return counts


def write_logical_count(trace: Trace, path: Path) -> None:
    """Write a .json file; raises TraceError."""
    if path.suffix != ".json":
        raise TraceError(f"{path}: SGLang's counts are written as .json; give it that ending")
    document = {"logical_count": logical_count(trace).tolist()}
    with staged(path) as written:
        written.write_text(json.dumps(document) + "\n", encoding="utf-8")
