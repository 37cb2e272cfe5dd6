"""Random feed-forward layers for tests of the compiled operations."""

import numpy as np

from araio.codecs import codec
from araio.kernels.native import CompiledOperations
from araio.kernels.ops import FeedForward, Int32Array
from araio.tensors import Float32Array

THREADS = (1, 2, 3)
CODECS = ("f32", "bf16", "fp8", "q8", "q4")


def randn(rng: np.random.Generator, *shape: int) -> Float32Array:
    return rng.standard_normal(shape).astype(np.float32)


def random_layer(rng: np.random.Generator, names: tuple[str, str, str], D: int, F: int) -> FeedForward:
    shapes = ((F, D), (F, D), (D, F))
    return FeedForward(
        *(
            codec(name).encode(randn(rng, *shape) / np.float32(D) ** 0.5)
            for name, shape in zip(names, shapes, strict=True)
        )
    )


def hold(ours: CompiledOperations, layer: FeedForward) -> FeedForward:
    return FeedForward(*(ours.hold(weight) for weight in vars(layer).values()))


def hold_all(ours: CompiledOperations, layers: dict[int, FeedForward]) -> dict[int, FeedForward]:
    return {e: hold(ours, layer) for e, layer in layers.items()}


def random_ids(rng: np.random.Generator, T: int, E: int, K: int) -> Int32Array:
    return np.argsort(rng.random((T, E)), axis=1)[:, :K].astype(np.int32)


def assert_same_bits(y: Float32Array, expected: Float32Array) -> None:
    np.testing.assert_array_equal(y.view(np.uint32), expected.view(np.uint32))
