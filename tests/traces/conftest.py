"""Traces to test with: random routes of a small model, and the columns that they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from araio.traces import Trace, TraceHeader, Valid

LAYERS = (1, 2, 3)


def header(**changes: Any) -> TraceHeader:
    known: dict[str, Any] = {
        "model": "tiny",
        "fingerprint": "ab" * 32,
        "layers": LAYERS,
        "n_routed_experts": 16,
        "top_k": 4,
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "domains": ("math", "law"),
    }
    return TraceHeader(**(known | changes))


def columns(
    tokens: int = 50, seed: int = 0, layers: int = 3, experts: int = 16, top_k: int = 4
) -> dict[str, Any]:
    """Columns as `Trace.from_arrays` takes them: every fifth row has no routes, sequences are mixed."""
    random = np.random.default_rng(seed)
    valid = np.where(np.arange(tokens) % 5 == 4, Valid.CACHED, Valid.ROUTES)
    is_valid = (valid == Valid.ROUTES)[:, None, None]
    weights = random.random((tokens, layers, top_k)) + 0.01
    seq = random.integers(0, 4, tokens)
    return {
        "expert_ids": np.argsort(random.random((tokens, layers, experts)), axis=2)[:, :, :top_k] * is_valid,
        "weights": weights / weights.sum(axis=2, keepdims=True) * is_valid,
        "token_id": random.integers(0, 1000, tokens),
        "position": np.arange(tokens),
        "seq": seq,
        "phase": random.integers(0, 4, tokens),
        "domain": seq % 2,
        "segment": random.integers(0, 3, tokens),
        "valid": valid,
        "margin": random.random((tokens, layers)) * is_valid[:, :, 0],
    }


@pytest.fixture
def trace() -> Trace:
    return Trace.from_arrays(header(), **columns())


def assert_same(one: Trace, other: Trace) -> None:
    """Every column, and what is counted of it."""
    mine, its = one.recorded(), other.recorded()
    assert mine.keys() == its.keys()
    for name, values in mine.items():
        assert values.dtype == its[name].dtype
        np.testing.assert_array_equal(values, its[name], err_msg=name)
    for name in ("n", "gate", "pair", "trans"):
        np.testing.assert_allclose(getattr(one.counts, name), getattr(other.counts, name), err_msg=name)
