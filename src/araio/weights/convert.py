"""`convert`: a model folder to a store, tensor by tensor, whatever the model's size.

One tensor is in memory as it is stored, and a few pieces of it as float32. Weights that are stored in the
wanted way already are passed through bit for bit. Read `formats/store_layout.py` for what is written where,
`formats/store_writer.py` for what an interruption leaves behind.
"""

from __future__ import annotations

import math
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from araio.codecs import Codec, codec
from araio.config import ModelConfig
from araio.errors import CheckpointError, FormatError
from araio.formats.digest import fingerprint
from araio.formats.layout import EXPERT_MATRICES, expected_tensors
from araio.formats.manifest import Manifest
from araio.formats.safetensors import tensor_bytes
from araio.formats.store_layout import (
    DENSE_FILE,
    EXPERTS_TENSOR,
    RECORD_ALIGNMENT,
    ExpertRecord,
    StoreCodecs,
    Tensors,
    dense_tensors,
    expert_layer,
    store_files,
)
from araio.formats.store_writer import StoreWriter
from araio.formats.tensor_file import TensorFileWriter
from araio.kernels.widen import row_multiple, rows_of
from araio.weights.adapted import Stored, adapted
from araio.weights.adapter import ADAPTER_NAME, Adapter
from araio.weights.load import open_checked

__all__ = ["COPIED_FILES", "Conversion", "convert"]

OnProgress = Callable[[int, int], None]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

# What a model folder holds beside its weights, and a store takes over as it is.
COPIED_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
# Numbers of one piece of a tensor, which one thread encodes; 4 MiB as float32.
PIECE_NUMBERS = 1 << 20


@dataclass(frozen=True)
class Conversion:
    """What came of it; `weights` counts the numbers stored."""

    folder: Path
    codecs: StoreCodecs
    weights: int
    source_bytes: int
    store_bytes: int

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.store_bytes / self.weights


def convert(
    folder: Path,
    out: Path,
    codecs: StoreCodecs,
    on_progress: OnProgress = lambda done, total: None,
    adapter: Adapter | None = None,
) -> Conversion:
    """Write the store of a model; after an interruption the same call goes on where it was.

    folder       a checkpoint, or another store
    out          the store's folder, which must not exist yet
    on_progress  called with the bytes of weights that are written, and how many there will be
    adapter      tuned experts that the store shall have in place of the model's own

    Raises ConfigError, FormatError or CheckpointError: the model cannot be read or stored this way, `out`
    exists, or the disk has too little room or fails. AdapterError: the adapter is of another model.
    """
    with open_checked(folder) as (config, stored), adapted(config, stored, adapter) as source:
        if not source.holds_mtp(config):
            config = replace(config, num_nextn_predict_layers=0)
        source_bytes = sum(file.size_bytes for file in source.files)
        wanted = Manifest(codecs, fingerprint(folder / "config.json", source.files), source_bytes)
        with StoreWriter.open(out, wanted) as writer, _Workers() as workers:
            store_bytes = _Converter(config, source, codecs, writer, workers, on_progress).run()
            copied = [folder / name for name in COPIED_FILES]
            if adapter is not None and adapter.folder is not None:
                copied.append(adapter.folder / ADAPTER_NAME)
            writer.publish([path for path in copied if path.exists()])
    weights = sum(math.prod(shape) for shape in expected_tensors(config).values())
    return Conversion(out, codecs, weights, source_bytes, store_bytes)


class _Workers:
    """Threads that work ahead of whoever takes their results, one piece each and one more, whatever waits.

    The disk may be slower than they are, and what it has not taken yet is held in memory. When the context is
    left early, pieces that nobody has begun are dropped.
    """

    def __init__(self) -> None:
        self._count = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._count)

    def __enter__(self) -> _Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        """What the function makes of each item, in order."""
        ahead: deque[Future[ResultT]] = deque()
        for item in items:
            ahead.append(self._pool.submit(function, item))
            if len(ahead) > self._count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class _Converter:
    """One conversion: the files of a store, one after the other."""

    def __init__(
        self,
        config: ModelConfig,
        source: Stored,
        codecs: StoreCodecs,
        writer: StoreWriter,
        workers: _Workers,
        on_progress: OnProgress,
    ) -> None:
        self.config = config
        self.source = source
        self.codecs = codecs
        self.writer = writer
        self.workers = workers
        self.on_progress = on_progress
        self.record = ExpertRecord(config, codec(codecs.experts, source.block))
        self.done_bytes = 0
        self.total_bytes = 0

    def run(self) -> int:
        """Write what is missing; returns the bytes of all files of weights."""
        files = store_files(self.config, self.codecs, self.source.block)
        sizes = {
            name: sum(tensor_bytes(*tensor) for tensor in tensors.values()) for name, tensors in files.items()
        }
        self.total_bytes = sum(sizes.values())
        self.refuse_a_full_disk(sum(size for name, size in sizes.items() if not self.writer.has(name)))
        for name, tensors in files.items():
            if self.writer.has(name):
                self.advance(sizes[name])
            else:
                self.write_file(name, tensors)
        return sum(file.bytes for file in self.writer.manifest.files.values())

    def refuse_a_full_disk(self, needed: int) -> None:
        free = shutil.disk_usage(self.writer.folder).free
        if needed > free:
            raise CheckpointError(
                f"{self.writer.out}: the store takes {needed / 1e6:,.0f} MB more, but {free / 1e6:,.0f} MB "
                "of the disk are free; make room, choose another disk, or a codec with fewer bits"
            )

    def advance(self, size: int) -> None:
        self.done_bytes += size
        self.on_progress(self.done_bytes, self.total_bytes)

    def write_file(self, name: str, tensors: Tensors) -> None:
        with TensorFileWriter(self.writer.path(name), tensors, alignment=RECORD_ALIGNMENT) as file:
            checksums = (
                self.write_dense(file) if name == DENSE_FILE else self.write_experts(file, expert_layer(name))
            )
        self.writer.add(name, checksums)

    def write_experts(self, file: TensorFileWriter, layer: int) -> tuple[int, ...]:
        """Every record of a layer; their checksums."""
        checksums = []
        for expert in range(self.config.n_routed_experts):
            record = self.expert_record(layer, expert)
            file.append(EXPERTS_TENSOR, record)
            checksums.append(zlib.crc32(record.data))
            self.advance(len(record))
        return tuple(checksums)

    def write_dense(self, file: TensorFileWriter) -> tuple[int, ...]:
        """Every tensor that is not an expert's; their checksums, in the order of the file."""
        checksums = dict.fromkeys(file.names, 0)
        for name, shape in dense_tensors(self.config):
            wanted = self.codecs.of(name, shape, self.source.block)
            for piece in self.encoded(name, wanted):
                for part, array in zip(wanted.parts(shape), piece, strict=True):
                    tensor = name + part.suffix
                    file.append(tensor, array)
                    checksums[tensor] = zlib.crc32(np.ascontiguousarray(array).data, checksums[tensor])
            self.advance(wanted.bytes(shape))
        return tuple(checksums.values())

    def expert_record(self, layer: int, expert: int) -> npt.NDArray[np.uint8]:
        """The bytes of one expert."""
        record = np.zeros(self.record.bytes, np.uint8)
        for matrix in EXPERT_MATRICES:
            unfilled = self.record.arrays(record, matrix)
            name = f"model.layers.{layer}.mlp.experts.{expert}.{matrix}.weight"
            for piece in self.encoded(name, self.record.codec):
                for at, array in enumerate(piece):
                    unfilled[at][: len(array)] = array
                    unfilled[at] = unfilled[at][len(array) :]
        return record

    def encoded(self, name: str, wanted: Codec[Any]) -> Iterator[Sequence[npt.NDArray[Any]]]:
        """The parts of one tensor, some rows at a time."""
        weight = self.source.read_weight(name)
        if wanted.holds(weight):
            yield wanted.arrays(weight)
            return
        rows, numbers_per_row = weight.shape[0], math.prod(weight.shape[1:])
        tall = math.lcm(row_multiple(weight), wanted.row_multiple)
        step = max(1, PIECE_NUMBERS // (numbers_per_row * tall)) * tall

        def encode(start: int) -> Sequence[npt.NDArray[Any]]:
            arrays: Sequence[npt.NDArray[Any]] = wanted.arrays(
                wanted.encode(rows_of(weight, start, min(start + step, rows)))
            )
            return arrays

        starts = range(0, rows, step)
        try:
            # One piece is done here and now: on a busy machine, waking a thread takes longer.
            yield from map(encode, starts) if len(starts) == 1 else self.workers.map(encode, starts)
        except FormatError as error:
            raise FormatError(f"{self.source.folder}: tensor {name!r} {error}") from None
