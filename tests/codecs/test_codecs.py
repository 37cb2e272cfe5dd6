"""What every codec keeps to: parts that match its arrays, and a way back from them."""

import numpy as np
import pytest

from araio.codecs import CODECS, codec, codec_of
from araio.errors import FormatError
from araio.kernels.widen import widen

SHAPES = [(1, 1), (40, 100), (130, 257)]


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("shape", SHAPES)
def test_parts_describe_the_arrays_and_rebuild_the_weight(name: str, shape: tuple[int, int]) -> None:
    ours = codec(name)
    weight = ours.encode(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    parts, stored = ours.parts(shape), ours.arrays(weight)
    assert [(part.shape, part.dtype) for part in parts] == [(array.shape, array.dtype) for array in stored]
    assert ours.bytes(shape) == sum(array.nbytes for array in stored)
    again = ours.assemble(stored, shape)
    assert again.shape == shape
    for one, other in zip(ours.arrays(again), stored, strict=True):
        assert np.shares_memory(one, other)
    np.testing.assert_array_equal(widen(again), widen(weight))
    assert codec_of(weight).name == name
    assert ours.holds(weight)
    assert ours.is_finite(weight)
    assert [other for other in CODECS if CODECS[other].holds(weight)] == [name]


@pytest.mark.parametrize("name", CODECS)
def test_rows_encoded_apart_are_those_encoded_together(name: str) -> None:
    ours = codec(name)
    matrix = np.random.default_rng(0).standard_normal((3 * ours.row_multiple + 5, 70)).astype(np.float32)
    whole = ours.arrays(ours.encode(matrix))
    step = 2 * ours.row_multiple
    pieces = [ours.arrays(ours.encode(matrix[at : at + step])) for at in range(0, len(matrix), step)]
    for together, *apart in zip(whole, *pieces, strict=True):
        np.testing.assert_array_equal(np.concatenate(apart), together)


def test_an_unknown_codec_is_refused_by_name() -> None:
    with pytest.raises(FormatError, match="codec 'q5' is unknown; expected one of f32, bf16, fp8, q8, q4"):
        codec("q5")
