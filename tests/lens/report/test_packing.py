import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.lens.report.packing import pack, unpack

SIX_DIGITS = st.floats(-1e6, 1e6).map(lambda number: float(f"{number:.6g}"))
NUMBERS = st.none() | SIX_DIGITS | st.integers(-(2**40), 2**40)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.text() | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5).filter(lambda name: name != "packed"), inner, max_size=3)
        | st.lists(SIX_DIGITS | st.none(), min_size=20, max_size=40)
        | st.lists(st.integers(-9, 300), min_size=20, max_size=40)
    ),
    max_leaves=12,
)


def same(one, other):
    """Equal, and of the same types: 1 is not 1.0 here."""
    return json.dumps(one) == json.dumps(other)


@given(DOCUMENTS)
def test_what_is_packed_comes_back_as_it_was(document):
    assert same(unpack(json.loads(json.dumps(pack(document)))), document)


@pytest.mark.parametrize(
    ("values", "kind", "scale"),
    [
        ([number % 7 for number in range(30)], "u1", None),
        ([number - 5 for number in range(30)], "i1", None),
        ([number * 40 for number in range(30)], "u2", None),
        ([None, *range(30)], "i1", None),
        ([number / 100 for number in range(30)], "u1", 100),
        ([float(f"{1.23456e-5 * number:.6g}") for number in range(30)], "f4", None),
    ],
)
def test_numbers_take_the_narrowest_type(values, kind, scale):
    packed = pack({"values": values})["values"]
    assert (packed["packed"], packed["scale"], packed["shape"]) == (kind, scale, [len(values)])
    assert same(unpack({"values": packed}), {"values": values})


@pytest.mark.parametrize(
    "values",
    [
        [1 / 3] * 30,  # more digits than a float32 has
        [1, 2.5] * 20,
        [True] * 30,
        ["a"] * 30,
        [None] * 30,
        [[1, 2], [3]] * 20,
        [0.5] * 5,
        [-0.0, 0.25] * 20,
    ],
)
def test_what_would_not_come_back_stays_or_comes_back(values):
    assert same(unpack(pack(values)), values)


def test_the_shape_is_kept():
    cube = [[[layer * 10 + expert for expert in range(6)] for layer in range(4)] for _ in range(3)]
    assert pack(cube)["shape"] == [3, 4, 6]
    assert unpack(pack(cube)) == cube
