"""Parquet files that `exporters/parquet.py` wrote, as the traces that they were; see there for the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import COLUMNS
from araio.traces.exporters.parquet import METADATA_KEY, layer_columns, load_pyarrow
from araio.traces.header import TraceHeader, parse_header
from araio.traces.trace import Trace

__all__ = ["read_parquet"]

Array = npt.NDArray[Any]


def read_parquet(path: Path, header: TraceHeader | None, domain: str | None) -> Trace:
    """The rows of a file; it has its own header and domains, so neither can be given. Raises TraceError."""
    if header is not None or domain is not None:
        raise TraceError(f"{path}: says itself of which model and domains it is; give neither")
    pyarrow, parquet = load_pyarrow()
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise TraceError(f"{path}: is no Parquet file that can be read ({error})") from None
    metadata = table.schema.metadata or {}
    if METADATA_KEY not in metadata:
        raise TraceError(f"{path}: has no {METADATA_KEY.decode()} in its metadata, so araio did not write it")
    found, _ = parse_header(metadata[METADATA_KEY], str(path))
    numbers = found.layers or tuple(range(sum(name.startswith("experts_") for name in table.column_names)))
    columns: dict[str, Any] = {}
    for name, column in COLUMNS.items():
        if not column.is_optional or name in found.columns:
            stored = [name] if column.axes == "T" else layer_columns(name, numbers)
            parts = [_column(path, table, part, found.top_k) for part in stored]
            columns[name] = parts[0] if column.axes == "T" else np.stack(parts, axis=1)
    try:
        return Trace.from_arrays(found, **columns)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def _column(path: Path, table: Any, name: str, top_k: int) -> Array:
    if name not in table.column_names:
        raise TraceError(f"{path}: column {name!r} is missing")
    column = table[name].combine_chunks()
    if column.null_count:
        raise TraceError(f"{path}: column {name!r} has rows without a value; expected none")
    is_list = hasattr(column.type, "list_size")
    if is_list and column.type.list_size != top_k:
        raise TraceError(f"{path}: column {name!r} has lists of {column.type.list_size}; expected {top_k}")
    values: Array = (column.flatten() if is_list else column).to_numpy(zero_copy_only=False)
    return values.reshape(-1, top_k) if is_list else values
