"""`export_trace`: a trace as other programs read it.

EPLB's weights and SGLang's `logical_count` place experts on devices by how much they were used; Parquet holds
all rows for dataframes and databases. Read `eplb.py`, `sglang.py` and `parquet.py` for the formats.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from araio.errors import TraceError
from araio.json_reader import shown
from araio.traces.exporters.eplb import write_eplb
from araio.traces.exporters.parquet import write_parquet
from araio.traces.exporters.sglang import write_logical_count
from araio.traces.trace import Trace

__all__ = ["EXPORTERS", "export_trace"]

Exporter: TypeAlias = Callable[[Trace, Path], None]

EXPORTERS: dict[str, Exporter] = {
    "eplb": write_eplb,
    "parquet": write_parquet,
    "sglang": write_logical_count,
}


def export_trace(trace: Trace, path: str | Path, kind: str) -> None:
    """Write a trace as `kind`: eplb (.npy or .json), parquet, or sglang (.json); a file there is replaced.

    Raises TraceError for an unknown kind or ending, and when the file cannot be written.
    """
    if kind not in EXPORTERS:
        raise TraceError(f"kind {shown(kind)} is not known; expected one of {', '.join(EXPORTERS)}")
    EXPORTERS[kind](trace, Path(path))
