"""What `hold` makes of a weight: its very bytes, which another weight may be written over."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

from araio.codecs import Codec, codec
from araio.kernels import reference
from araio.kernels.ops import FeedForward, Ops
from araio.kernels.select import select
from araio.tensors import Weight

from .layers import CODECS, assert_same_bits, randn

SHAPES = {"gate_proj": (40, 150), "up_proj": (40, 150), "down_proj": (150, 40)}
LINE = 64


class Slot:
    """Memory for the three matrices of one expert, as a record has them: every part at a cache line."""

    def __init__(self, stored: Codec) -> None:
        self.stored = stored
        self.arrays: dict[str, list[npt.NDArray]] = {}
        sizes = [part.bytes for shape in SHAPES.values() for part in stored.parts(shape)]
        memory = np.zeros(LINE + sum(-(-size // LINE) * LINE for size in sizes), np.uint8)
        end = -memory.ctypes.data % LINE
        for name, shape in SHAPES.items():
            self.arrays[name] = []
            for part in stored.parts(shape):
                place = memory[end : end + part.bytes]
                self.arrays[name].append(place.view(part.dtype).reshape(part.shape))
                end += -(-part.bytes // LINE) * LINE

    def weights(self) -> dict[str, Weight]:
        """The three matrices, as views of the slot."""
        return {name: self.stored.assemble(self.arrays[name], SHAPES[name]) for name in SHAPES}

    def overwrite(self, weights: dict[str, Weight]) -> None:
        for name, weight in weights.items():
            for place, array in zip(self.arrays[name], self.stored.arrays(weight), strict=True):
                place[...] = array


def random_expert(stored: Codec, seed: int) -> dict[str, Weight]:
    rng = np.random.default_rng(seed)
    return {name: stored.encode(randn(rng, *shape)) for name, shape in SHAPES.items()}


def held(ops: Ops, weights: dict[str, Weight]) -> FeedForward:
    return FeedForward(**{name: ops.hold(weight) for name, weight in weights.items()})


@pytest.fixture
def native_ops(extension: ModuleType) -> Iterator[Ops]:
    before = extension.threads()
    yield select("native").ops
    extension.set_threads(before)


@pytest.fixture(params=["reference", pytest.param("native", marks=pytest.mark.native)])
def ops(request: pytest.FixtureRequest) -> Ops:
    return reference.OPS if request.param == "reference" else request.getfixturevalue("native_ops")


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("name", CODECS)
def test_what_is_held_may_be_overwritten(ops: Ops, name: str, tokens: int) -> None:
    stored = codec(name)
    assert ops.holds_in_place(stored)
    slot = Slot(stored)
    layer = held(ops, slot.weights())
    x = randn(np.random.default_rng(0), tokens, 150)
    for seed in range(3):
        expert = random_expert(stored, seed)
        slot.overwrite(expert)
        assert_same_bits(ops.swiglu(x, layer), ops.swiglu(x, held(ops, expert)))
        assert_same_bits(ops.linear(x, layer.gate_proj), ops.linear(x, ops.hold(expert["gate_proj"])))


@pytest.mark.native
def test_fp8_blocks_that_are_held_as_float32_are_told_apart(native_ops: Ops) -> None:
    ops, stored = native_ops, codec("fp8", (24, 40))
    assert reference.OPS.holds_in_place(stored)
    assert not ops.holds_in_place(stored)
    slot, x = Slot(stored), randn(np.random.default_rng(0), 3, 150)
    slot.overwrite(random_expert(stored, 0))
    layer = held(ops, slot.weights())
    before = ops.swiglu(x, layer)
    slot.overwrite(random_expert(stored, 1))
    assert_same_bits(ops.swiglu(x, layer), before)
