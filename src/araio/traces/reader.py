"""The files of a trace: opened and measured at once, read column by column when somebody asks.

Nothing is believed that another file can contradict: names and numbers of files follow from the header,
their types and shapes from the columns, and the counts must be those of the rows. No array is larger than
the file that it comes from, and no file lies outside the folder. Read `checks.py` for what must hold of the
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import FormatError, TraceError
from araio.formats.safetensors import SafetensorsFile
from araio.formats.shards import inside
from araio.json_reader import shown
from araio.traces.checks import check_column, check_events
from araio.traces.columns import CACHE_COLUMNS, COLUMNS, CacheEvents, Phase, stored_type
from araio.traces.count_checks import check_counts, check_squares, check_totals, counted
from araio.traces.counted import CountedColumns
from araio.traces.counts import COUNTS_COLUMNS, Counts
from araio.traces.header import (
    HEADER_NAME,
    MAX_LAYERS,
    PARTIAL_SUFFIX,
    TraceFiles,
    TraceHeader,
    read_header,
)
from araio.traces.spool import shard_name
from araio.traces.writer import CACHE_FILE, COUNTS_FILE

__all__ = ["Shards", "open_folder"]

Array = npt.NDArray[Any]

_REMEDY = "copy the trace again, or record it again"
_GROUPING = ("domain", "phase", "valid")


class Shards:
    """The columns of one kind of rows, tokens or drafts, over all their shards.

    rows, layers  of all of them
    """

    def __init__(self, header: TraceHeader, folder: Path, kind: str, rows: Sequence[int]) -> None:
        self.header = header
        self.files = [_opened(folder, shard_name(kind, number)) for number in range(len(rows))]
        self.rows = sum(rows)
        self.layers = len(header.layers) or _layers(self.files[0])
        for file, count in zip(self.files, rows, strict=True):
            _check_tensors(file, self._expected(count))
        self._counts: SafetensorsFile | None = None
        self._events: SafetensorsFile | None = None

    def has(self, name: str) -> bool:
        """Whether a column is there."""
        return not COLUMNS[name].is_optional or name in self.header.columns

    def read(self, name: str) -> Array:
        """A column, checked; raises TraceError."""
        values = self._read(self.files[0], name)
        if len(self.files) > 1:
            first, values = values, np.empty((self.rows, *values.shape[1:]), values.dtype)
            values[: len(first)] = first
            begin = len(first)
            for file in self.files[1:]:  # one shard at a time beside the whole
                part = self._read(file, name)
                values[begin : begin + len(part)] = part
                begin += len(part)
        if name == "expert_ids" and self._counts is not None:
            self._compare(values)
        return values

    def hold_against(self, counts: SafetensorsFile) -> None:
        """Check the counts of these rows now, and the rows against them when they are read."""
        self._counts = counts
        _check_counts_file(self.header, counts, self.layers)
        grouping = {name: self.read(name) for name in _GROUPING}
        check_totals(self.header, _read(counts, "n"), grouping, str(counts.path))

    def hold_events(self, events: SafetensorsFile, count: int) -> None:
        """Take a file of cache events as these rows'."""
        _check_tensors(events, {name: (stored_as, (count,)) for name, stored_as in CACHE_COLUMNS.items()})
        self._events = events

    def counts(self) -> Counts | None:
        """What is counted of these rows; raises TraceError."""
        if self._counts is None:
            return None
        counts = _read_counts(self._counts)
        check_squares(self.header, counts, str(self._counts.path))
        return counts

    def cache_events(self) -> CacheEvents | None:
        """What became of experts while these rows ran; raises TraceError."""
        if self._events is None:
            return None
        events = CacheEvents(*(_read(self._events, name) for name in CACHE_COLUMNS))
        check_events(self.header, events, self.rows, str(self._events.path))
        return events

    def _expected(self, rows: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        sizes = {"T": rows, "L": self.layers, "K": self.header.top_k}
        return {
            name: (
                stored_type(name, self.header.n_routed_experts),
                tuple(sizes[axis] for axis in column.axes),
            )
            for name, column in COLUMNS.items()
            if self.has(name)
        }

    def _read(self, file: SafetensorsFile, name: str) -> Array:
        values = _read(file, name)
        valid = values if name == "valid" else _read(file, "valid")
        check_column(self.header, name, values, valid, str(file.path))
        return values

    def _compare(self, expert_ids: Array) -> None:
        assert self._counts is not None
        found = counted(self.header, expert_ids, {name: self.read(name) for name in _GROUPING})
        check_counts(_read(self._counts, "n"), found, str(self._counts.path))


def open_folder(folder: Path) -> tuple[TraceHeader, Shards | CountedColumns, Shards | None]:
    """Header, tokens and drafts of a trace; raises TraceError."""
    _find(folder)
    header, files = read_header(_inside(folder, HEADER_NAME))
    counts = _opened(folder, COUNTS_FILE)
    if not files.shards:
        return header, _counted(header, counts), None
    tokens = Shards(header, folder, "tokens", files.shards)
    tokens.hold_against(counts)
    if files.cache_events:
        tokens.hold_events(_opened(folder, CACHE_FILE), files.cache_events)
    return header, tokens, _drafts(header, folder, files)


def _find(folder: Path) -> None:
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    if not folder.is_dir():
        if partial.is_dir():
            raise TraceError(
                f"{folder}: does not exist, but {partial.name} does: a recording that still runs, or was "
                "killed before it was complete; wait for it, or record again"
            )
        found = "is a file" if folder.exists() else "does not exist"
        raise TraceError(f"{folder}: {found}; expected the folder of a trace")
    if not (folder / HEADER_NAME).exists():
        if folder.name.endswith(PARTIAL_SUFFIX):
            raise TraceError(
                f"{folder}: is a recording that still runs, or was killed before it was complete; it "
                "cannot be read: wait for it, or record again"
            )
        raise TraceError(
            f"{folder}: has no {HEADER_NAME}, so it is no trace; see `araio trace import` for others'"
        )


def _drafts(header: TraceHeader, folder: Path, files: TraceFiles) -> Shards | None:
    if not files.draft_shards:
        return None
    if not header.mtp_layers:
        raise TraceError(f"{folder / HEADER_NAME}: names shards of drafts, but mtp_layers is []")
    return Shards(header.of_drafts(), folder, "draft", files.draft_shards)


def _counted(header: TraceHeader, file: SafetensorsFile) -> CountedColumns:
    entry = file.get("n")
    layers = len(header.layers) or (entry.shape[2] if entry is not None and len(entry.shape) == 4 else 0)
    _check_counts_file(header, file, layers)
    return CountedColumns(header, _read_counts(file), str(file.path))


def _check_counts_file(header: TraceHeader, file: SafetensorsFile, layers: int) -> None:
    shape = (len(header.domains), len(Phase), layers, header.n_routed_experts)
    square = (header.n_routed_experts, header.n_routed_experts)
    shapes = {"n": shape, "gate": shape, "pair": (layers, *square), "trans": (max(layers - 1, 0), *square)}
    _check_tensors(file, {name: (COUNTS_COLUMNS[name], shapes[name]) for name in COUNTS_COLUMNS})


def _read_counts(file: SafetensorsFile) -> Counts:
    return Counts(**{name: _read(file, name) for name in COUNTS_COLUMNS})


def _inside(folder: Path, name: str) -> Path:
    try:
        return inside(folder, name, _REMEDY)
    except (FormatError, OSError) as error:
        raise TraceError(str(error)) from None


def _opened(folder: Path, name: str) -> SafetensorsFile:
    path = _inside(folder, name)
    if not path.exists():
        raise TraceError(f"{path}: is missing; {_REMEDY}")
    try:
        return SafetensorsFile(path, _REMEDY)
    except FormatError as error:
        raise TraceError(str(error)) from None


def _read(file: SafetensorsFile, name: str) -> Array:
    try:
        return file.read(name)
    except FormatError as error:
        raise TraceError(str(error)) from None


def _layers(file: SafetensorsFile) -> int:
    """How many layers the rows of an unknown model have."""
    entry = file.get("expert_ids")
    if entry is None or len(entry.shape) != 3 or not 1 <= entry.shape[1] <= MAX_LAYERS:
        found = "missing" if entry is None else f"of the shape {shown(list(entry.shape))}"
        raise TraceError(f"{file.path}: column 'expert_ids' is {found}; expected (tokens, layers, experts)")
    return entry.shape[1]


def _check_tensors(file: SafetensorsFile, expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    for name in [*expected, *file]:
        dtype, shape = expected.get(name, ("", ()))
        if name not in file:
            raise TraceError(f"{file.path}: column {name!r} is missing; {_REMEDY}")
        if name not in expected:
            raise TraceError(f"{file.path}: column {shown(name)} is not in {HEADER_NAME}; {_REMEDY}")
        entry = file[name]
        if entry.dtype != dtype or entry.shape != shape:
            raise TraceError(
                f"{file.path}: column {name!r} is {entry.dtype} {shown(list(entry.shape))}; expected "
                f"{dtype} {list(shape)} by {HEADER_NAME}; {_REMEDY}"
            )
