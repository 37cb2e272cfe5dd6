"""Approximations of whole models: the same from disk as from memory, exact again when off, fewer reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from araio.nn.approximations import Cached, TopN, approximation
from araio.testing.checkpoints import FAMILIES, write_tiny_checkpoint
from araio.weights.load import load_model

from .streams import scores, streamed

IDS = np.random.default_rng(3).integers(0, 250, 40).tolist()
TEXT = {"ids": IDS, "chunk": 8, "prompt": 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        write_tiny_checkpoint(home / family, family)
    return {family: home / family for family in FAMILIES}


def test_what_was_switched_off_again_leaves_nothing(folders: dict[str, Path]) -> None:
    model = load_model(folders["v3"])
    expected = scores(model, **TEXT)
    model.approximation = TopN(1)
    assert (scores(model, **TEXT) != expected).any()
    model.approximation = None
    np.testing.assert_array_equal(scores(model, **TEXT), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_experts_are_computed_and_read_in_every_layer(folders: dict[str, Path], family: str) -> None:
    model = load_model(folders[family])
    model.approximation = TopN(2)
    seen = []
    model.on_route = lambda layer, ids, weights: seen.append((ids.shape, weights.shape))
    in_memory = scores(model, **TEXT)
    assert {shape[1] for shapes in seen for shape in shapes} == {2}
    from_disk, _ = streamed(folders[family], 5)
    from_disk.approximation = TopN(2)
    np.testing.assert_array_equal(scores(from_disk, **TEXT), in_memory)


@pytest.mark.parametrize("family", FAMILIES)
def test_with_room_for_every_expert_a_streamed_model_becomes_exact(
    folders: dict[str, Path], family: str
) -> None:
    expected = scores(load_model(folders[family]), **TEXT)
    model, source = streamed(folders[family], 1000)
    scores(model, **TEXT)
    config = model.config
    every = np.arange(config.n_routed_experts, dtype=np.int32)[None]
    for layer in config.moe_layers:  # what the text did not use
        list(source.request(layer, every).arrivals())
    assert all(source.is_in_memory(layer).all() for layer in config.moe_layers)
    model.approximation = Cached(config, model.ops, source)
    np.testing.assert_array_equal(scores(model, **TEXT), expected)


def test_less_is_read_of_a_streamed_model(folders: dict[str, Path]) -> None:
    reads: dict[str | None, int] = {}
    for how in (None, "cached"):
        model, source = streamed(folders["moonlight"], 20)
        if how:
            model.approximation = approximation(how, model.config, model.ops, source)
        scores(model, **TEXT)
        before = source.counters.reads
        scores(model, IDS[::-1], chunk=8, prompt=8)
        reads[how] = source.counters.reads - before
    assert reads["cached"] < 0.8 * reads[None]


def test_guesses_choose_as_the_layer_will(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = streamed(folders["v3"], 12)
    model.approximation = TopN(1)
    guessed = []
    expect = source.expect
    monkeypatch.setattr(
        source, "expect", lambda *guess: (guessed.append(guess[2].shape[1]), expect(*guess))[1]
    )
    scores(model, **TEXT)
    assert set(guessed) == {1}
