"""Approximations: off unless asked for, what they choose by hand, and within the model's own rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import araio
from araio.config import ModelConfig
from araio.errors import RequestError
from araio.kernels import reference
from araio.kernels.select import select
from araio.nn.approximations import Cached, Decision, TopN, approximation
from araio.nn.batch import Batch, Segment
from araio.nn.kv_cache import LatentCache
from araio.testing.checkpoints import FAMILIES, tiny_config, write_tiny_checkpoint
from araio.weights.load import load_model

LAYER = 1


class Here:
    """A source that has these experts in memory."""

    def __init__(self, experts: int, ids: list[int]) -> None:
        self.is_here = np.isin(np.arange(experts), ids)

    def is_in_memory(self, layer: int) -> npt.NDArray[np.bool_]:
        assert layer == LAYER
        return self.is_here


def decided(config: ModelConfig, logits: np.ndarray, *, is_decoded: bool = True) -> Decision:
    bias = (
        np.linspace(-0.2, 0.2, config.n_routed_experts, dtype=np.float32) if config.has_router_bias else None
    )
    ids, weights = reference.route(logits, bias, config)
    return Decision(LAYER, logits, bias, ids, weights, np.full(len(logits), is_decoded))


def some_logits(config: ModelConfig, tokens: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, config.n_routed_experts)).astype(np.float32)


def lite(**changes: object) -> ModelConfig:
    return tiny_config("v2-lite", **changes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        write_tiny_checkpoint(home / family, family)
    return {family: home / family for family in FAMILIES}


# ---------------------------------------------------------------------- off


def test_a_model_is_exact_unless_somebody_asks(folders: dict[str, Path]) -> None:
    model = araio.load(folders["v3"])
    assert model.approximate is None
    assert all(router.approximation is None for router in model.network.routers)


# ---------------------------------------------------------------------- top-N


def test_the_best_stay_with_the_weights_that_the_model_gave_them() -> None:
    logits = np.log(np.array([[0.05, 0.3, 0.1, 0.25, 0.02, 0.08, 0.15, 0.05]], np.float32))
    ids, weights = TopN(2)(decided(lite(), logits))
    assert ids.tolist() == [[1, 3]]
    np.testing.assert_allclose(weights, [[0.3, 0.25]], rtol=1e-5)
    assert (ids.dtype, weights.dtype) == (np.int32, np.float32)
    assert ids.flags.c_contiguous
    assert weights.flags.c_contiguous


def test_fewer_experts_are_not_given_the_weight_of_all() -> None:
    config = tiny_config("v3")
    exact = decided(config, some_logits(config))
    _, weights = TopN(2)(exact)
    assert (weights.sum(1) < exact.weights.sum(1) - 0.1).all()


# ---------------------------------------------------------------------- cached, by hand


def test_the_two_best_are_sacred_and_memory_comes_before_score() -> None:
    # By score: 7 6 5 4 3 2 1 0; three of them are chosen, and six are candidates.
    exact = decided(lite(), np.arange(8, dtype=np.float32)[None])

    def chosen(*here: int) -> list[list[int]]:
        ids: list[list[int]] = Cached(lite(), reference.OPS, Here(8, list(here)))(exact)[0].tolist()
        return ids

    assert chosen() == [[7, 6, 5]]  # nothing is here
    assert chosen(5) == [[7, 6, 5]]
    assert chosen(4, 3) == [[7, 6, 4]]  # the better of two
    assert chosen(2) == [[7, 6, 2]]  # the last candidate
    assert chosen(1, 0) == [[7, 6, 5]]  # no candidates


def test_places_that_memory_cannot_fill_go_to_the_best_of_the_others() -> None:
    config = lite(num_experts_per_tok=4)
    logits = np.arange(8, dtype=np.float32)[None]
    ids, _ = Cached(config, reference.OPS, Here(8, [1]))(decided(config, logits))
    assert ids.tolist() == [[7, 6, 5, 1]]


def test_weights_are_the_models_own_scores() -> None:
    config = lite(routed_scaling_factor=2.0)
    logits = np.log(np.array([[0.05, 0.3, 0.1, 0.25, 0.02, 0.08, 0.15, 0.05]], np.float32))
    ids, weights = Cached(config, reference.OPS, Here(8, [2]))(decided(config, logits))
    assert ids.tolist() == [[1, 3, 2]]
    np.testing.assert_allclose(weights, [[0.6, 0.5, 0.2]], rtol=1e-5)


def test_weights_have_the_sum_that_the_model_gives_all_tokens() -> None:
    config = tiny_config("v3")
    exact = decided(config, some_logits(config))
    ids, weights = Cached(config, reference.OPS, Here(16, [0, 5, 9, 14]))(exact)
    is_other = (ids != exact.ids).any(1)
    assert is_other.any()
    np.testing.assert_allclose(weights.sum(1), config.routed_scaling_factor, rtol=1e-5)
    scores_TE = 1 / (1 + np.exp(-exact.logits))
    ratio = weights / np.take_along_axis(scores_TE, ids, 1)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)


@given(st.sampled_from(list(FAMILIES)), st.sets(st.integers(0, 15)), st.integers(0, 1000))
def test_whatever_is_in_memory_the_models_rule_holds(family: str, here: set[int], seed: int) -> None:
    config = tiny_config(family)
    exact = decided(config, some_logits(config, tokens=4, seed=seed))
    source = Here(config.n_routed_experts, list(here))
    ids, weights = Cached(config, reference.OPS, source)(exact)
    K = config.num_experts_per_tok
    assert ids.shape == weights.shape == exact.ids.shape
    assert (ids.dtype, weights.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(ids[:, :2], exact.ids[:, :2])
    reach = tiny_config(family, num_experts_per_tok=min(2 * K, _reachable(config)))
    candidates, _ = reference.route(exact.logits, exact.bias, reach)
    for token, row in enumerate(ids.tolist()):
        assert len(set(row)) == K
        ranks = [candidates[token].tolist().index(expert) for expert in row]  # in the model's groups, too
        assert ranks == sorted(ranks)
        left_out = {int(expert) for expert in candidates[token]} - set(row)
        if any(not source.is_here[expert] for expert in row[2:]):
            assert not any(source.is_here[expert] for expert in left_out)
        if source.is_here[exact.ids[token]].all():
            assert row == exact.ids[token].tolist()
            np.testing.assert_array_equal(_bits(weights[token]), _bits(exact.weights[token]))


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.uint32)


def _reachable(config: ModelConfig) -> int:
    if config.topk_method == "greedy":
        return config.n_routed_experts
    return config.topk_group * config.n_routed_experts // config.n_group


def test_prompts_are_left_alone() -> None:
    config = tiny_config("v3")
    exact = decided(config, some_logits(config))
    is_decoded = np.arange(50) % 2 == 0
    cached = Cached(config, reference.OPS, Here(16, [3, 8, 15]))
    ids, weights = cached(exact._replace(is_decoded=is_decoded))
    np.testing.assert_array_equal(ids[~is_decoded], exact.ids[~is_decoded])
    np.testing.assert_array_equal(_bits(weights[~is_decoded]), _bits(exact.weights[~is_decoded]))
    assert (ids[is_decoded] != exact.ids[is_decoded]).any()


def test_a_step_says_of_each_token_whether_it_is_decoded(folders: dict[str, Path]) -> None:
    model = load_model(folders["v3"])
    pool = model.new_pool(512)
    segments = [
        Segment(np.arange(n), LatentCache(pool), absorbed)
        for n, absorbed in ((3, False), (1, True), (2, True))
    ]
    assert Batch(segments, model.rotary).is_decoded.tolist() == [False] * 3 + [True] * 3
    assert Batch(segments[:1], model.rotary).is_decoded.tolist() == [False] * 3


def test_the_compiled_rule_gives_the_same() -> None:
    for family in FAMILIES:
        config = tiny_config(family)
        exact = decided(config, some_logits(config))
        source = Here(config.n_routed_experts, [0, 3, 6])
        ours = Cached(config, select().ops, source)(exact)
        reference_s = Cached(config, reference.OPS, source)(exact)
        np.testing.assert_array_equal(ours[0], reference_s[0])
        np.testing.assert_allclose(ours[1], reference_s[1], rtol=1e-5)


# ---------------------------------------------------------------------- names


def test_a_name_makes_what_it_says() -> None:
    config = tiny_config("v3")
    source = Here(16, [])
    assert approximation("top-3", config, reference.OPS, source) == TopN(3)
    cached = approximation("cached", config, reference.OPS, source)
    assert cached is not None
    assert cached.name == "cached"
    assert approximation("cached", config, reference.OPS, None) is None
    assert TopN(3).name == "top-3"


@pytest.mark.parametrize(
    "name", ["top-4", "top-0", "top-", "top-1.5", "top--1", "top3", "TOP-2", "", "cache", "top-²"]
)
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(RequestError, match="this model has top-1 to top-3 and cached at 4 experts a token"):
        approximation(name, tiny_config("v3"), reference.OPS, None)


@pytest.mark.parametrize(("chosen", "known"), [(1, "has none"), (2, "has top-1 at")])
def test_a_model_of_few_experts_has_what_makes_sense(chosen: int, known: str) -> None:
    for name in ("top-2", "cached"):
        with pytest.raises(RequestError, match=known):
            approximation(name, lite(num_experts_per_tok=chosen), reference.OPS, None)


def test_a_mistake_is_told_before_weights_are_read(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("araio.api.loading.open_model", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(RequestError, match="top-9"):
        araio.load(folders["v3"], approximate="top-9")


def test_a_model_says_how_it_is_approximated(folders: dict[str, Path]) -> None:
    model = araio.load(folders["v3"], approximate="top-2")
    assert model.approximate == "top-2"
    assert model.label.endswith("v3 (top-2)")
    assert model.route([1, 2, 3])[0].shape == (3, len(model.config.moe_layers), 2)
    receipt = model.complete("one", max_tokens=4, temperature=0).receipt
    assert receipt.approximation == "top-2"
    exact = araio.load(folders["v3"], approximate="cached")
    assert exact.approximate is None
    assert exact.complete("one", max_tokens=4, temperature=0).receipt.approximation is None
    assert receipt.parameters_active < exact.complete("one", max_tokens=4).receipt.parameters_active
