"""The compiled operations against the reference, at every vector width this CPU has."""

import importlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from araio.codecs import codec
from araio.errors import KernelError
from araio.kernels import native, reference
from araio.kernels.ops import FeedForward
from araio.tensors import Float32Array

compiled = pytest.importorskip("araio.kernels._native", reason="the compiled kernels are not built")
pytestmark = pytest.mark.native

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
ISAS = compiled.isas()
NARROW = {"float32": lambda w: w, "bfloat16": codec("bf16").encode, "fp8": codec("fp8").encode}


def randn(rng: np.random.Generator, *shape: int) -> Float32Array:
    return rng.standard_normal(shape).astype(np.float32)


def operations(isa: str) -> native.CompiledOperations:
    return native.CompiledOperations(compiled, isa)


def random_experts(rng, count: int, D: int, F: int, kind: str) -> dict[int, FeedForward]:
    narrow = NARROW[kind]
    shapes = ((F, D), (F, D), (D, F))
    return {
        e: FeedForward(*(narrow(randn(rng, *shape) / np.float32(D) ** 0.5) for shape in shapes))
        for e in range(count)
    }


def random_ids(rng, T: int, E: int, K: int) -> np.ndarray:
    return np.argsort(rng.random((T, E)), axis=1)[:, :K].astype(np.int32)


sizes = st.integers(1, 70)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", NARROW)
@given(
    seed=st.integers(0, 2**32), T=st.integers(0, 40), D=sizes, F=sizes, E=st.integers(1, 9), data=st.data()
)
def test_experts_agree_on_any_shape(isa, kind, seed, T, D, F, E, data) -> None:
    rng, K = np.random.default_rng(seed), data.draw(st.integers(1, E))
    experts = random_experts(rng, E, D, F, kind)
    x, ids, weights = randn(rng, T, D), random_ids(rng, T, E, K), randn(rng, T, K)
    y = operations(isa).experts(x, ids, weights, experts)
    np.testing.assert_allclose(y, reference.experts(x, ids, weights, experts), **CLOSE)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("T", [1, 32, 33, 100])
def test_experts_agree_when_all_tokens_choose_one(isa: str, T: int) -> None:
    rng = np.random.default_rng(T)
    experts = random_experts(rng, 3, 48, 20, "bfloat16")
    x, weights = randn(rng, T, 48), randn(rng, T, 1)
    ids = np.full((T, 1), 2, np.int32)
    y = operations(isa).experts(x, ids, weights, experts)
    np.testing.assert_allclose(y, reference.experts(x, ids, weights, experts), **CLOSE)


@pytest.mark.parametrize("isa", ISAS)
@given(seed=st.integers(0, 2**32), T=st.integers(0, 40), inputs=sizes, outputs=sizes)
def test_linear_and_rms_norm_agree_on_any_shape(isa, seed, T, inputs, outputs) -> None:
    rng = np.random.default_rng(seed)
    x, scale = randn(rng, T, inputs), randn(rng, inputs)
    ours = operations(isa)
    weight = codec("bf16").encode(randn(rng, outputs, inputs))
    np.testing.assert_allclose(ours.linear(x, weight), reference.linear(x, weight), **CLOSE)
    np.testing.assert_allclose(ours.rms_norm(x, scale, 1e-6), reference.rms_norm(x, scale, 1e-6), **CLOSE)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_tokens_answer_does_not_depend_on_its_batch(isa: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    experts = random_experts(rng, 6, 70, 37, kind)
    x, ids, weights = randn(rng, 90, 70), random_ids(rng, 90, 6, 3), randn(rng, 90, 3)
    ours = operations(isa)
    whole = ours.experts(x, ids, weights, experts)
    for t in (0, 1, 44, 89):
        one = slice(t, t + 1)
        np.testing.assert_array_equal(ours.experts(x[one], ids[one], weights[one], experts), whole[one])


@pytest.mark.parametrize("isa", ISAS)
def test_arrays_that_are_not_contiguous_are_read_as_they_mean(isa: str) -> None:
    rng = np.random.default_rng(0)
    x, scale = randn(rng, 5, 40)[:, ::2], randn(rng, 20)
    np.testing.assert_allclose(
        operations(isa).rms_norm(x, scale, 1e-6), reference.rms_norm(x, scale, 1e-6), **CLOSE
    )


def test_weights_that_cannot_be_written_are_accepted() -> None:
    rng = np.random.default_rng(0)
    weight = codec("bf16").encode(randn(rng, 4, 8))
    weight.bits.flags.writeable = False  # as a memory-mapped file is
    assert operations(ISAS[0]).linear(randn(rng, 2, 8), weight).shape == (2, 4)


X, Y = np.ones((2, 8), np.float32), np.ones((2, 8), np.float32)
BITS = np.zeros((8, 8), np.uint16)
IDS, WEIGHTS = np.zeros((2, 1), np.int32), np.ones((2, 1), np.float32)
SQUARE = [np.zeros((8, 8), np.float32)]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rms_norm", (X, np.ones(7, np.float32), 1e-6, Y)),
        ("rms_norm", (X, np.ones(8, np.float32), 1e-6, Y[:1])),
        ("linear_bf16", (X, BITS[:, :7].copy(), Y)),
        ("linear_bf16", (X, BITS[:7], Y)),
        ("experts_f32", (X, IDS + 1, WEIGHTS, [0], SQUARE, SQUARE, SQUARE, Y)),
        ("experts_f32", (X, IDS - 1, WEIGHTS, [0], SQUARE, SQUARE, SQUARE, Y)),
        ("experts_f32", (X, IDS[:1], WEIGHTS, [0], SQUARE, SQUARE, SQUARE, Y)),
        ("experts_f32", (X, IDS, WEIGHTS[:1], [0], SQUARE, SQUARE, SQUARE, Y)),
        ("experts_f32", (X, IDS, WEIGHTS, [0], SQUARE, SQUARE, [], Y)),
        ("experts_f32", (X, IDS, WEIGHTS, [1, 0], SQUARE * 2, SQUARE * 2, SQUARE * 2, Y)),
        ("experts_f32", (X, IDS, WEIGHTS, [0], SQUARE, [SQUARE[0][:7]], SQUARE, Y)),
        ("experts_f32", (X, IDS, WEIGHTS, [0], SQUARE, SQUARE, [SQUARE[0][:, :7].copy()], Y)),
        ("experts_f32", (X, IDS, WEIGHTS, [], [], [], [], Y)),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_any_memory_is_touched(name: str, arguments) -> None:
    with pytest.raises(ValueError, match=r"must|expert|one matrix"):
        getattr(compiled, name)(*arguments, ISAS[0])


@pytest.mark.parametrize("bad", [X.astype(np.float64), X.T, X[:, ::2], BITS])
def test_arrays_of_another_type_or_layout_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(TypeError):
        compiled.rms_norm(
            bad, np.ones(bad.shape[1], np.float32), 1e-6, np.ones(bad.shape, np.float32), ISAS[0]
        )


def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARAIO_CPU_ISA", "avx9000")
    with pytest.raises(KernelError, match=r"avx9000.*baseline"):
        native.offer()
    with pytest.raises(ValueError, match="avx9000"):
        compiled.rms_norm(X, np.ones(8, np.float32), 1e-6, Y, "avx9000")


def test_an_instruction_set_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARAIO_CPU_ISA", "baseline")
    assert "baseline" in native.offer().summary


def test_a_module_that_cannot_be_loaded_is_a_reason_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError("libstdc++.so.6: version not found")

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert not native.offer().operations
    assert "version not found" in native.offer().summary
