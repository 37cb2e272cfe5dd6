"""A step of several sequences: who attends together, and that nobody notices."""

import numpy as np
import pytest

from araio.kernels.ops import PAGE
from araio.nn.batch import Batch, Segment
from araio.nn.kv_cache import LatentCache
from araio.nn.model import Model
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.load import load_model

BEFORE = (PAGE + 5, 0, 7, 2 * PAGE - 1)
"""Positions of four sequences that live in one pool."""


@pytest.fixture(scope="module", params=["v2", "v3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("batch") / request.param
    write_tiny_checkpoint(folder, request.param)
    return load_model(folder)


def sequences(model: Model) -> list[LatentCache]:
    """Sequences of random prompts, already run."""
    pool, rng = model.new_pool(20 * PAGE), np.random.default_rng(0)
    caches = [LatentCache(pool) for _ in BEFORE]
    for cache, count in zip(caches, BEFORE, strict=True):
        if count:
            model.forward(rng.integers(0, 200, count), cache)
    return caches


def next_segments(caches: list[LatentCache], forms: list[bool]) -> list[Segment]:
    ids = (np.arange(3, 3 + count) for count in (1, 4, 2, 1))
    return [Segment(own, cache, form) for own, cache, form in zip(ids, caches, forms, strict=True)]


def test_neighbours_of_one_form_are_one_span(model: Model) -> None:
    caches = sequences(model)
    batch = Batch(next_segments(caches, [True, True, False, True]), model.rotary)
    assert [span.rows for span in batch.spans] == [slice(0, 5), slice(5, 7), slice(7, 8)]
    assert [span.absorbed for span in batch.spans] == [True, False, True]
    assert [span.tokens.tolist() for span in batch.spans] == [[1, 4], [2], [1]]
    assert [span.lengths.tolist() for span in batch.spans] == [[PAGE + 6, 4], [9], [2 * PAGE]]
    first = batch.spans[0].tables
    assert first.shape == (2, 2)
    assert first[0].tolist() == caches[0].pages
    assert first[1, :1].tolist() == caches[1].pages


@pytest.mark.native
@pytest.mark.parametrize(
    "forms",
    [[True] * 4, [False] * 4, [True, True, False, False], [False, True, False, True]],
)
def test_sequences_of_a_step_have_the_bits_of_each_alone(model: Model, forms: list[bool]) -> None:
    together = model.step(next_segments(sequences(model), forms))
    alone = [model.step([segment]) for segment in next_segments(sequences(model), forms)]
    np.testing.assert_array_equal(together.view(np.uint32), np.concatenate(alone).view(np.uint32))
