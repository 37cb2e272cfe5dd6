"""Results as plain JSON."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from araio.lens.result import LEFT_OUT, Result, to_json


@dataclass(frozen=True)
class Inner(Result):
    ids: np.ndarray


@dataclass(frozen=True)
class Outer(Result):
    share: float
    table: np.ndarray
    inner: tuple[Inner, ...]
    by_name: dict[str, np.ndarray]
    nothing: None = None
    large: np.ndarray = field(default_factory=lambda: np.ones(3), metadata=LEFT_OUT)


def test_arrays_become_lists_what_is_unknown_null_and_what_is_large_stays_out() -> None:
    table = np.array([[1 / 3, np.nan], [np.inf, 2]])
    made = Outer(float("nan"), table, (Inner(np.array([1, 2], np.uint8)),), {"a": np.array([True])})
    document = made.to_json()
    assert document == {
        "share": None,
        "table": [[0.333333, None], [None, 2.0]],
        "inner": [{"ids": [1, 2]}],
        "by_name": {"a": [True]},
        "nothing": None,
    }
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_only_what_json_knows_passes() -> None:
    with pytest.raises(AssertionError):
        to_json(object())
