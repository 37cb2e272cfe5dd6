"""Compiled attention, in both forms, and rotary positions against the reference."""

from collections.abc import Sequence
from typing import NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from araio.codecs import codec, decode
from araio.kernels import reference
from araio.kernels.ops import PAGE, Latents
from araio.kernels.reference_attention import gathered
from araio.tensors import BFloat16, Float32Array, Weight

from .layers import assert_same_bits

pytestmark = pytest.mark.native

THREADS = (1, 2, 3)
CLOSE = {"rtol": 1e-4, "atol": 3e-5}
CODECS = ("f32", "bf16", "fp8", "q8", "q4")
DTYPES = (np.float32, np.uint16)
FORMS = ("mla_decode", "mla_prefill")


def randn(rng: np.random.Generator, *shape: int) -> Float32Array:
    return rng.standard_normal(shape).astype(np.float32)


class Inputs(NamedTuple):
    """What attention is given, by the names of `ops.MultiHeadLatentAttention`."""

    q_nope: Float32Array
    q_pe: Float32Array
    latents: Latents
    kv_b_proj: Weight
    scale: float


def paged(
    rng: np.random.Generator,
    latents: Sequence[Float32Array],
    tokens: Sequence[int],
    dtype: type[np.generic] = np.float32,
) -> Latents:
    """Latents (S, C + R) in pages in random order, with pages of nobody among them, all full of NaN."""
    width = latents[0].shape[1]
    used = [-(-len(latent) // PAGE) for latent in latents]
    nan = np.nan if dtype is np.float32 else 0x7FC0
    pages = np.full((sum(used) + 2, PAGE, width), nan, dtype)
    free, tables = rng.permutation(len(pages)), np.full((len(latents), max(used) + 1), -1)
    for latent, table, count in zip(latents, tables, used, strict=True):
        table[:count], free = free[:count], free[count:]
        slots = (table[:, None] * PAGE + np.arange(PAGE)).reshape(-1)[: len(latent)]
        reference.store_latents(latent[:, :-1], latent[:, -1:], slots, pages)
    return Latents(pages, tables, np.array([len(latent) for latent in latents]), np.array(tokens))


def positions_of(latents: Latents) -> Float32Array:
    """What one sequence sees (S, C + R)."""
    return gathered(latents.pages, latents.tables[0], int(latents.lengths[0]))


def up_to(latents: Latents, length: int, tokens: int) -> Latents:
    """The first positions of one sequence, for so many queries."""
    return Latents.of_one(latents.pages, latents.tables[0], length, tokens)


def random_inputs(
    rng: np.random.Generator,
    T: int,
    S: int,
    sizes: tuple[int, int, int, int, int],
    name: str = "f32",
    dtype: type[np.generic] = np.float32,
) -> Inputs:
    """Both parts of the queries are slices of one array, as in the model.

    sizes  H, N, R, V, C
    """
    H, N, R, V, C = sizes
    q = randn(rng, T, H, N + R)
    weight = codec(name).encode(randn(rng, H * (N + V), C) / np.float32(C) ** 0.5)
    latents = paged(rng, [randn(rng, S, C + R)], [T], dtype)
    return Inputs(q[..., :N], q[..., N:], latents, weight, (N + R) ** -0.5)


def attend(ours, form: str, inputs: Inputs) -> Float32Array:
    return getattr(ours, form)(*inputs._replace(kv_b_proj=ours.hold(inputs.kv_b_proj)))


@settings(max_examples=20)
@given(
    threads=st.sampled_from(THREADS),
    seed=st.integers(0, 2**32),
    name=st.sampled_from(CODECS),
    dtype=st.sampled_from(DTYPES),
    T=st.sampled_from([0, 1, 1, 2, 5, 33]),
    before=st.integers(0, 300),
    sizes=st.tuples(
        st.integers(1, 9), st.integers(1, 40), st.integers(1, 19), st.integers(1, 40), st.integers(1, 90)
    ),
)
@pytest.mark.parametrize("form", FORMS)
def test_both_forms_agree_on_any_shape(
    on_threads, form: str, threads, seed, name, dtype, T, before, sizes
) -> None:
    inputs = random_inputs(np.random.default_rng(seed), T, T + before, sizes, name, dtype)
    y = attend(on_threads(threads), form, inputs)
    np.testing.assert_allclose(y, getattr(reference, form)(*inputs), **CLOSE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("T", [1, 7])
def test_they_agree_where_heads_are_whole_tiles(on_threads, form: str, name: str, T: int) -> None:
    inputs = random_inputs(np.random.default_rng(0), T, 400, (6, 48, 16, 32, 128), name, np.uint16)
    y = attend(on_threads(3), form, inputs)
    np.testing.assert_allclose(y, getattr(reference, form)(*inputs), **CLOSE)


def exact(inputs: Inputs) -> np.ndarray:
    """The last token's answer, absorbed, in float64."""
    H, N = inputs.q_nope.shape[1:]
    seen = positions_of(inputs.latents).astype(float)
    C = seen.shape[1] - inputs.q_pe.shape[2]
    w = inputs.kv_b_proj.reshape(H, -1, C).astype(float)
    q = np.concatenate([np.einsum("hn,hnc->hc", inputs.q_nope[-1], w[:, :N]), inputs.q_pe[-1]], axis=1)
    scores = q @ seen.T * inputs.scale
    attention = np.exp(scores - scores.max(1, keepdims=True))
    attention /= attention.sum(1, keepdims=True)
    return np.einsum("hc,hvc->hv", attention @ seen[:, :C], w[:, N:])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sharpness", [1.0, 100.0])
def test_a_context_of_128k_is_attended_as_in_float64(on_threads, form: str, sharpness: float) -> None:
    rng = np.random.default_rng(1)
    inputs = random_inputs(rng, 2, 131_072, (3, 4, 2, 5, 6))
    # The largest score moves on and on.
    inputs.latents.pages[inputs.latents.tables[0, :1024]] += np.linspace(-1, 1, 1024, dtype=np.float32)[
        :, None, None
    ]
    inputs = inputs._replace(scale=inputs.scale * sharpness)
    y = attend(on_threads(2), form, inputs)
    np.testing.assert_allclose(y[-1], exact(inputs), rtol=1e-3, atol=1e-5 * sharpness**0.5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CODECS)
def test_an_answer_depends_neither_on_the_batch_nor_on_threads(on_threads, form: str, name: str) -> None:
    """Nor on what follows in the cache, nor on where pages lie."""
    T, S = 150, 700
    rng = np.random.default_rng(0)
    inputs = random_inputs(rng, T, S, (5, 32, 8, 16, 70), name)
    held = on_threads(1).hold(inputs.kv_b_proj)
    elsewhere = paged(rng, [positions_of(inputs.latents)], [T])

    def run(threads: int, tokens: slice, latents: Latents) -> Float32Array:
        operation = getattr(on_threads(threads), form)
        return operation(inputs.q_nope[tokens], inputs.q_pe[tokens], latents, held, inputs.scale)

    whole = run(1, slice(None), inputs.latents)
    for threads in (2, 3):
        np.testing.assert_array_equal(run(threads, slice(None), elsewhere), whole)
    for t in (0, 1, 77, T - 1):
        one = run(1, slice(t, t + 1), up_to(elsewhere, S - T + t + 1, 1))
        np.testing.assert_array_equal(one[0], whole[t])
    some = run(3, slice(30, 50), up_to(inputs.latents, S - T + 50, 20))
    np.testing.assert_array_equal(some, whole[30:50])


@settings(max_examples=20)
@given(
    threads=st.sampled_from(THREADS),
    seed=st.integers(0, 2**32),
    name=st.sampled_from(CODECS),
    dtype=st.sampled_from(DTYPES),
    sequences=st.lists(
        st.tuples(st.sampled_from([0, 1, 1, 1, 2, 6, 40]), st.integers(0, 300)), min_size=1, max_size=20
    ),
    sizes=st.sampled_from([(3, 16, 4, 32, 64), (8, 32, 8, 16, 33), (18, 5, 3, 9, 40)]),
)
@pytest.mark.parametrize("form", FORMS)
def test_sequences_side_by_side_have_the_bits_of_each_alone(
    on_threads, form: str, threads, seed, name, dtype, sequences, sizes
) -> None:
    rng = np.random.default_rng(seed)
    _, _, R, _, C = sizes
    tokens = [own for own, _ in sequences]
    alone = random_inputs(rng, sum(tokens), 1, sizes, name)
    lengths = [own + before for own, before in sequences]
    latents = paged(rng, [randn(rng, length, C + R) for length in lengths], tokens, dtype)
    inputs = alone._replace(latents=latents)
    y = attend(on_threads(threads), form, inputs)
    np.testing.assert_allclose(y, getattr(reference, form)(*inputs), **CLOSE)

    held = on_threads(1).hold(inputs.kv_b_proj)
    stop = 0
    for table, length, own in zip(latents.tables, lengths, tokens, strict=True):
        rows, stop = slice(stop, stop + own), stop + own
        one = Latents.of_one(latents.pages, table, length, own)
        found = getattr(on_threads(1), form)(inputs.q_nope[rows], inputs.q_pe[rows], one, held, inputs.scale)
        assert_same_bits(found, y[rows])


def test_a_step_too_large_for_its_pages_at_once_merges_them_in_waves(on_threads) -> None:
    """There is room for 2^21 numbers: those of 1,024 rows, 514 each, over three of the six pages."""
    inputs = random_inputs(np.random.default_rng(0), 32, 750, (32, 4, 4, 4, 512))
    y = attend(on_threads(1), "mla_decode", inputs)
    np.testing.assert_allclose(y, reference.mla_decode(*inputs), **CLOSE)
    for threads in (2, 3):
        np.testing.assert_array_equal(attend(on_threads(threads), "mla_decode", inputs), y)


@pytest.mark.parametrize("form", FORMS)
def test_scores_beyond_the_range_of_exp_are_survived(ours, form: str) -> None:
    inputs = random_inputs(np.random.default_rng(0), 2, 300, (3, 8, 4, 8, 16))
    for scale in (1e4, 1e30, -1e30):  # so far apart that differences overflow
        assert np.isfinite(attend(ours, form, inputs._replace(scale=scale))).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_query_that_is_not_a_number_stays_alone(ours, form: str) -> None:
    inputs = random_inputs(np.random.default_rng(0), 7, 300, (3, 8, 4, 8, 16))
    clean = attend(ours, form, inputs)
    inputs.q_nope[3, 1, 2] = np.nan
    y = attend(ours, form, inputs)
    assert np.isnan(y[3, 1]).all()
    y[3, 1] = clean[3, 1]
    np.testing.assert_array_equal(y, clean)


@pytest.mark.parametrize("form", FORMS)
def test_queries_may_lie_in_any_way(ours, form: str) -> None:
    inputs = random_inputs(np.random.default_rng(0), 4, 40, (3, 8, 4, 8, 16))
    expected = attend(ours, form, inputs._replace(q_nope=inputs.q_nope.copy(), q_pe=inputs.q_pe.copy()))
    backwards = inputs.q_nope[:, ::-1].copy()[:, ::-1]
    by_head = np.ascontiguousarray(inputs.q_pe.transpose(1, 2, 0)).transpose(2, 0, 1)
    y = attend(ours, form, inputs._replace(q_nope=backwards, q_pe=by_head))
    np.testing.assert_array_equal(y, expected)


@settings(max_examples=20)
@given(
    st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 40), st.integers(1, 9), st.sampled_from(DTYPES)
)
def test_latents_are_stored_bit_for_bit(on_threads, seed: int, T: int, C: int, R: int, dtype) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.array([np.nan, np.inf, -np.inf, 0, 3.4e38, 1e-45, 1.00390625, 1.01171875], np.float32)
    c_kv = np.where(rng.random((T, C)) < 0.5, rng.choice(numbers, (T, C)), randn(rng, T, C))
    k_pe, slots = randn(rng, T, R), rng.permutation(3 * PAGE)[:T]
    pages, expected = np.zeros((2, 3, PAGE, C + R), dtype)
    on_threads(1).store_latents(c_kv, k_pe, slots, pages)
    reference.store_latents(c_kv, k_pe, slots, expected)
    if dtype is np.uint16:
        pages, expected = (decode(BFloat16(bits)) for bits in (pages, expected))
    np.testing.assert_array_equal(pages, expected)


@pytest.mark.parametrize("slots", [[0, 2 * PAGE], [-1, 0], [0], [0, 1, 2]])
def test_slots_that_are_not_there_are_refused(ours, slots: list[int]) -> None:
    pages = np.zeros((2, PAGE, 3), np.float32)
    with pytest.raises(ValueError, match=r"slots"):
        ours.store_latents(np.ones((2, 2), np.float32), np.ones((2, 1), np.float32), np.array(slots), pages)
    assert not pages.any()


# What fits together: T, H, N, R, V, C are 2, 3, 4, 2, 5, 6, and 200 positions are on two of three pages.
SHAPES = {
    "q_nope": (2, 3, 4),
    "q_pe": (2, 3, 2),
    "pages": (3, PAGE, 8),
    "kv_b_proj": (3 * (4 + 5), 6),
    "y": (2, 3, 5),
}


def call(ours, form: str, latents: Latents, change: dict[str, tuple[int, ...]]) -> None:
    arrays = {name: np.zeros(shape, np.float32) for name, shape in (SHAPES | change).items()}
    latents = latents._replace(pages=arrays["pages"])
    held = ours.hold(arrays["kv_b_proj"])
    getattr(ours.compiled, form)(arrays["q_nope"], arrays["q_pe"], *latents, held, 1.0, arrays["y"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "change",
    [
        {"q_pe": (1, 3, 2)},
        {"q_pe": (2, 2, 2)},
        {"q_pe": (2, 3, 4)},
        {"pages": (3, PAGE - 1, 8)},
        {"pages": (3, PAGE, 7)},
        {"kv_b_proj": (26, 6)},
        {"kv_b_proj": (27, 7)},
        {"y": (1, 3, 5)},
        {"y": (2, 2, 5)},
        {"y": (2, 3, 4)},
    ],
)
def test_sizes_that_do_not_fit_are_refused(ours, form: str, change: dict[str, tuple[int, ...]]) -> None:
    latents = Latents.of_one(np.zeros(0), np.array([2, 0]), 200, 2)
    call(ours, form, latents, {})
    with pytest.raises(ValueError, match="must"):
        call(ours, form, latents, change)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("table", "length"), [([2], 200), ([2, 3], 200), ([-1, 0], 200), ([2, 0], 1), ([2, 0], -1)]
)
def test_pages_that_are_not_there_are_refused(ours, form: str, table: list[int], length: int) -> None:
    with pytest.raises(ValueError, match="must"):
        call(ours, form, Latents.of_one(np.zeros(0), np.array(table), length, 2), {})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("tables", "lengths", "tokens"),
    [
        ([[2, 0], [1, 1]], [200, 100], [1, 2]),
        ([[2, 0], [1, 1]], [200, 100], [1, 0]),
        ([[2, 0], [1, 1]], [200, 100], [-1, 3]),
        ([[2, 0], [1, 1]], [200, 100], [2**62, 2**62]),
        ([[2, 0], [1, 1]], [200, 0], [1, 1]),
        ([[2, 0], [1, 1]], [200, 257], [1, 1]),
        ([[2, 0], [3, 0]], [200, 100], [1, 1]),
        ([[2, 0], [1, 1]], [200], [1, 1]),
        ([[2, 0]], [200, 100], [1, 1]),
        ([[2, 0]], [200], [1, 1]),
    ],
)
def test_sequences_that_do_not_fit_are_refused(ours, form: str, tables, lengths, tokens) -> None:
    call(
        ours,
        form,
        Latents(np.zeros(0), np.array([[2, 0], [1, 3]]), np.array([200, 100]), np.ones(2, int)),
        {},
    )
    with pytest.raises(ValueError, match="must"):
        call(ours, form, Latents(np.zeros(0), *map(np.array, (tables, lengths, tokens))), {})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int16])
def test_a_cache_of_another_type_is_refused(ours, form: str, dtype: type[np.generic]) -> None:
    inputs = random_inputs(np.random.default_rng(0), 1, 40, (3, 8, 4, 8, 16))
    latents = inputs.latents._replace(pages=np.zeros(inputs.latents.pages.shape, dtype))
    with pytest.raises((ValueError, TypeError)):
        attend(ours, form, inputs._replace(latents=latents))


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 9), st.integers(0, 20))
def test_rope_is_the_references_bit_for_bit(on_threads, seed: int, T: int, H: int, pairs: int) -> None:
    rng = np.random.default_rng(seed)
    q, angles = randn(rng, T, H, 3 + 2 * pairs), randn(rng, T, pairs) * 100
    x, cos, sin = q[..., 3:], np.cos(angles), np.sin(angles)
    np.testing.assert_array_equal(on_threads(1).rope(x, cos, sin), reference.rope(x, cos, sin))


@pytest.mark.parametrize(
    ("cos", "y"),
    [((1, 4), (2, 3, 8)), ((2, 3), (2, 3, 8)), ((2, 4), (2, 2, 8)), ((2, 4), (2, 3, 6)), ((2, 4), (1, 3, 8))],
)
def test_a_rotation_that_does_not_fit_is_refused(ours, cos: tuple[int, int], y: tuple[int, ...]) -> None:
    angles = np.zeros(cos, np.float32)
    with pytest.raises(ValueError, match="must"):
        ours.compiled.rope(np.zeros((2, 3, 8), np.float32), angles, angles, np.zeros(y, np.float32))


def test_an_odd_number_cannot_be_rotated(ours) -> None:
    angles = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="pairs"):
        ours.compiled.rope(np.zeros((2, 3, 7), np.float32), angles, angles, np.zeros((2, 3, 7), np.float32))
