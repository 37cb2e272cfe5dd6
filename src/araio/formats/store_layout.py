"""What a store consists of: a codec for each class of weights, the files, and the record of an expert.

Every offset and size follows from the config and the codecs, so a reader can check a store before it reads a
weight, and a writer can tell how large one will be. Read `store.py` for the reader, `store_writer.py` for the
way into a folder; `docs/store.md` describes the same bytes to people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from araio.codecs import Codec, Part, codec
from araio.config import ModelConfig
from araio.errors import FormatError
from araio.formats.layout import (
    EXPERT_MATRICES,
    can_be_fp8,
    expert_of,
    main_tensors,
    mtp_tensors,
    stays_float32,
)
from araio.tensors import Weight

__all__ = [
    "DENSE_FILE",
    "EXPERTS_TENSOR",
    "PART_ALIGNMENT",
    "RECORD_ALIGNMENT",
    "ExpertRecord",
    "StoreCodecs",
    "Tensors",
    "dense_tensors",
    "expert_file",
    "expert_layer",
    "store_files",
]

DENSE_FILE = "dense.safetensors"
EXPERTS_TENSOR = "experts"
RECORD_ALIGNMENT = 4096  # what a read past the page cache (O_DIRECT) may begin at, on every disk in use
PART_ALIGNMENT = 64  # a cache line, and the widest vector

Tensors: TypeAlias = Mapping[str, tuple[str, tuple[int, ...]]]
"""Safetensors type and shape by the name of the tensor."""

_TABLES = ("model.embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True)
class StoreCodecs:
    """How each class of weights is stored, by the names of codecs.

    experts     routed experts
    dense       every other matrix: attention, dense layers, shared experts
    embeddings  the embedding and the output matrix; never fp8, as in every published checkpoint

    Routers, norms and biases are always float32. Where a class is fp8, a matrix that no published checkpoint
    has in FP8 (the MTP module's `eh_proj`) is bfloat16.

    Raises FormatError for unknown codecs.
    """

    experts: str
    dense: str
    embeddings: str

    def __post_init__(self) -> None:
        for part in fields(self):
            codec(getattr(self, part.name))
        if self.embeddings == "fp8":
            raise FormatError(
                "embeddings are not stored as fp8; choose bf16, as published checkpoints do, or f32, q8, q4"
            )

    def of(self, name: str, shape: tuple[int, ...], fp8_block: tuple[int, int]) -> Codec[Any]:
        """The codec of one tensor."""
        if stays_float32(name, shape):
            return codec("f32")
        if name in _TABLES:
            return codec(self.embeddings)
        chosen = self.dense if expert_of(name) is None else self.experts
        return codec("bf16" if chosen == "fp8" and not can_be_fp8(name) else chosen, fp8_block)


class ExpertRecord:
    """One expert's gate, up and down: every part of them at a multiple of 64 bytes, the whole of 4096.

    bytes  of one record, padding included
    """

    def __init__(self, config: ModelConfig, codec: Codec[Any]) -> None:
        dim, width = config.hidden_size, config.moe_intermediate_size
        self.codec = codec
        self.shapes = dict(zip(EXPERT_MATRICES, ((width, dim), (width, dim), (dim, width)), strict=True))
        self._places: dict[str, list[tuple[Part, int]]] = {}
        end = 0
        for matrix, shape in self.shapes.items():
            places = self._places[matrix] = []
            for part in codec.parts(shape):
                begin = _round_up(end, PART_ALIGNMENT)
                places.append((part, begin))
                end = begin + part.bytes
        self.bytes = _round_up(end, RECORD_ALIGNMENT)

    def weight(self, record: npt.NDArray[np.uint8], matrix: str) -> Weight:
        """One matrix of a record (bytes,), as views of it."""
        weight: Weight = self.codec.assemble(self.arrays(record, matrix), self.shapes[matrix])
        return weight

    def places(self, matrix: str) -> Sequence[tuple[Part, int]]:
        """The parts of one matrix and the byte of the record where each begins."""
        return self._places[matrix]

    def arrays(self, record: npt.NDArray[np.uint8], matrix: str) -> list[npt.NDArray[Any]]:
        """The parts of one matrix of a record (bytes,), as views of it, to be read or filled."""
        return [
            record[begin : begin + part.bytes].view(part.dtype).reshape(part.shape)
            for part, begin in self._places[matrix]
        ]


def expert_file(layer: int) -> str:
    """The file of a layer's experts."""
    return f"experts-{layer:05d}.safetensors"


def expert_layer(file: str) -> int:
    """The layer of a file that `expert_file` named."""
    return int(file.removeprefix("experts-").removesuffix(".safetensors"))


def dense_tensors(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each tensor that is not a routed expert's, the MTP layers' among them."""
    for name, shape in chain(main_tensors(config), mtp_tensors(config)):
        if expert_of(name) is None:
            yield name, shape


def store_files(config: ModelConfig, codecs: StoreCodecs, fp8_block: tuple[int, int]) -> dict[str, Tensors]:
    """The tensors of every file, by the file's name."""
    dense = {
        name + part.suffix: (part.stored_as, part.shape)
        for name, shape in dense_tensors(config)
        for part in codecs.of(name, shape, fp8_block).parts(shape)
    }
    files: dict[str, Tensors] = {DENSE_FILE: dense}
    layers = [layer for layer in (*config.moe_layers, *config.mtp_layers) if config.is_moe(layer)]
    record = ExpertRecord(config, codec(codecs.experts, fp8_block))
    for layer in layers:
        files[expert_file(layer)] = {EXPERTS_TENSOR: ("U8", (config.n_routed_experts, record.bytes))}
    return files


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
