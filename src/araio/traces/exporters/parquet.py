"""A trace as a Parquet file, for DuckDB, polars and the like: a row for each token, a column for each layer.

`experts_003` is a list of the K experts of the layer numbered 3, `weights_003` of their weights, as float32,
which more programs read than float16 and which holds the same numbers. Every other column has its own name.
The header lies in the file's metadata under `araio-trace`. Cache events and drafts stay behind. Read
`importers/parquet.py` for the way back, which gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import COLUMNS
from araio.traces.exporters.staged import staged
from araio.traces.header import TraceFiles, header_text
from araio.traces.trace import Trace

__all__ = ["METADATA_KEY", "layer_columns", "load_pyarrow", "write_parquet"]

METADATA_KEY = b"araio-trace"
_BLOCK_ROWS = 1 << 16
_PREFIXES = {"expert_ids": "experts", "weights": "weights", "margin": "margin"}

Array = npt.NDArray[Any]


def load_pyarrow() -> tuple[ModuleType, ModuleType]:
    """Pyarrow and its Parquet part; raises TraceError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TraceError(
            "Parquet files need pyarrow, which is not installed: pip install 'araio[report]'"
        ) from None
    return pyarrow, pyarrow.parquet


def layer_columns(name: str, numbers: tuple[int, ...]) -> list[str]:
    """The Parquet columns of a column that has layers."""
    return [f"{_PREFIXES[name]}_{number:03d}" for number in numbers]


def write_parquet(trace: Trace, path: Path) -> None:
    """Write a .parquet file, compressed with zstd; raises TraceError."""
    pyarrow, parquet = load_pyarrow()
    if path.suffix != ".parquet":
        raise TraceError(f"{path}: is to be a Parquet file; give it the ending .parquet")
    columns = trace.recorded()
    if not columns:
        raise TraceError("the trace has counts alone, and Parquet would hold its rows")
    metadata = {METADATA_KEY: header_text(trace.header, TraceFiles((trace.tokens,))).encode()}
    numbers = trace.header.layers or tuple(range(trace.n_layers))
    with staged(path) as written:
        writer = None
        for begin in range(0, trace.tokens, _BLOCK_ROWS):
            block = {name: values[begin : begin + _BLOCK_ROWS] for name, values in columns.items()}
            table = pyarrow.table(dict(_arrays(pyarrow, block, numbers))).replace_schema_metadata(metadata)
            if writer is None:
                writer = parquet.ParquetWriter(written, table.schema, compression="zstd")
            writer.write_table(table)
        assert writer is not None
        writer.close()


def _arrays(
    pyarrow: ModuleType, block: dict[str, Array], numbers: tuple[int, ...]
) -> Iterator[tuple[str, Any]]:
    for name, values in block.items():
        if COLUMNS[name].axes == "T":
            yield name, pyarrow.array(values)
            continue
        values = values.astype(np.float32) if values.dtype.kind == "f" else values
        for layer, stored in enumerate(layer_columns(name, numbers)):
            flat = pyarrow.array(np.ascontiguousarray(values[:, layer]).ravel())
            is_list = values.ndim == 3
            yield stored, pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[2]) if is_list else flat
