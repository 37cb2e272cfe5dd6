"""Random weights of any size and codec, made in memory as a model is built: for benchmarks, not for text.

Only the first rows of a matrix are drawn; the others repeat them, so that a model of 16 billion parameters is
there within seconds and yet every byte of it is memory of its own. Routers are drawn whole and the embedding
outweighs what the layers add to it, so that tokens stay different and spread over all experts.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.codecs import Codec
from araio.config import ModelConfig
from araio.formats.layout import expected_tensors
from araio.formats.store_layout import StoreCodecs
from araio.kernels.ops import Ops
from araio.memory import weight_memory
from araio.nn.model import Model
from araio.tensors import Weight
from araio.weights.build import ModelBuilder

__all__ = ["RandomWeights", "random_model", "repeated_weight"]

# Rows that are drawn: whole tiles and blocks of every codec.
DRAWN_ROWS = 128
EMBEDDING_RMS = 8.0  # the layers of a model add about 0.6 each, part of it the same for all tokens


class RandomWeights:
    """A source of weights: normal numbers of standard deviation `1 / sqrt(columns)`, norms of 1, biases of 0.

    The numbers of the embedding have a standard deviation of `EMBEDDING_RMS`.

    A tensor depends on the seed, its name and its codec alone.
    """

    def __init__(self, config: ModelConfig, codecs: StoreCodecs, seed: int = 0) -> None:
        quantization = config.quantization_config
        self._block = quantization.weight_block_size if quantization else (128, 128)
        self._shapes = expected_tensors(config)
        self._codecs = codecs
        self._seed = seed

    def read_weight(self, name: str) -> Weight:
        """The tensor `name`, new at every call."""
        shape = self._shapes[name]
        if len(shape) == 1:
            is_bias = name.endswith("bias")
            return np.zeros(shape, np.float32) if is_bias else np.ones(shape, np.float32)
        rows, columns = shape
        rng = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        codec = self._codecs.of(name, shape, self._block)
        drawn = rows if name.endswith(".gate.weight") else min(rows, DRAWN_ROWS)
        deviation = EMBEDDING_RMS if name == "model.embed_tokens.weight" else columns**-0.5
        return _drawn(codec, (rows, columns), drawn, deviation, rng)


def repeated_weight(codec: Codec[Any], shape: tuple[int, int], seed: int) -> Weight:
    """A random matrix as a codec stores it, every byte of it memory of its own; for timing products."""
    rng = np.random.default_rng(seed)
    return _drawn(codec, shape, min(shape[0], DRAWN_ROWS), shape[1] ** -0.5, rng)


def _drawn(
    codec: Codec[Any], shape: tuple[int, int], drawn: int, deviation: float, rng: np.random.Generator
) -> Weight:
    """The first rows drawn, the others repeating them."""
    matrix = rng.standard_normal((drawn, shape[1]), dtype=np.float32) * np.float32(deviation)
    arrays = codec.arrays(codec.encode(matrix))
    parts = codec.parts(shape)
    repeated = [_repeat(array, part.shape) for array, part in zip(arrays, parts, strict=True)]
    weight: Weight = codec.assemble(repeated, shape)
    return weight


def _repeat(array: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The rows of an array again and again, up to a shape; always memory of its own."""
    repeated = weight_memory(math.prod(shape) * array.itemsize).view(array.dtype).reshape(shape)
    for start in range(0, shape[0], len(array)):
        repeated[start : start + len(array)] = array[: shape[0] - start]
    return repeated


def random_model(config: ModelConfig, codecs: StoreCodecs, ops: Ops, seed: int = 0) -> Model:
    """A model of a config with random weights stored as `codecs` says."""
    return ModelBuilder(RandomWeights(config, codecs, seed), config, ops, widens=False).model()
