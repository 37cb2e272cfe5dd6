"""The model's seams: the routing hook, the expert source, the two forms of attention, tied embeddings."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from araio.kernels.ops import FeedForward
from araio.kernels.select import select
from araio.nn.batch import LONG, Segment, Unwanted
from araio.nn.model import Model
from araio.nn.moe import MoE
from araio.testing.checkpoints import FAMILIES, write_tiny_checkpoint
from araio.weights.load import load_model

IDS = np.random.default_rng(0).integers(0, 250, 20)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp(request.param)
    write_tiny_checkpoint(folder, request.param)
    return load_model(folder)


def test_the_hook_sees_every_routed_layer_once_and_in_order(model: Model) -> None:
    seen = []
    model.on_route = lambda layer, ids, weights: seen.append((layer, ids, weights))
    try:
        model.forward(IDS, model.new_cache("float32"))
    finally:
        model.on_route = None
    K = model.config.num_experts_per_tok
    assert [layer for layer, *_ in seen] == list(model.config.moe_layers)
    for _, ids, weights in seen:
        assert ids.shape == weights.shape == (len(IDS), K)
        assert (ids.dtype, weights.dtype) == (np.int32, np.float32)
        assert all(len(set(row)) == K for row in ids.tolist())


def test_setting_the_hook_changes_no_number(model: Model) -> None:
    plain = model.forward(IDS, model.new_cache("float32"))
    model.on_route = lambda *_: None
    try:
        hooked = model.forward(IDS, model.new_cache("float32"))
    finally:
        model.on_route = None
    np.testing.assert_array_equal(plain, hooked)


@pytest.mark.parametrize(("cache_type", "atol"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_both_forms_of_attention_agree_in_every_layer(model: Model, cache_type: str, atol: float) -> None:
    outputs = [
        model.forward(IDS, model.new_cache(cache_type), absorbed=absorbed) for absorbed in (False, True)
    ]
    np.testing.assert_allclose(*outputs, rtol=0, atol=atol)


class CountingExperts:
    """A source that gives exactly what was asked for, and remembers it."""

    def __init__(self, layers: Mapping[int, Mapping[int, FeedForward]]) -> None:
        self.layers = layers
        self.asked: list[tuple[int, set[int]]] = []

    def request(self, layer: int, expert_ids: np.ndarray):
        self.asked.append((layer, set(expert_ids.ravel().tolist())))
        chosen = {e: self.layers[layer][e] for e in self.asked[-1][1]}
        return SimpleNamespace(at_hand=lambda: chosen)


def test_a_layer_needs_only_the_experts_it_asked_for(model: Model) -> None:
    block = model.layers[model.config.moe_layers[0]]
    moe = block.mlp
    assert isinstance(moe, MoE)
    layer = moe.gate.layer
    experts = moe.experts.request(layer, np.empty(0, np.int32)).at_hand()
    assert experts is not None
    source = CountingExperts({layer: experts})
    x = np.random.default_rng(1).standard_normal((3, model.config.hidden_size)).astype(np.float32)
    batch = SimpleNamespace(routes=None, is_decoded=np.ones(3, np.bool_), masks=(), pause=lambda: None)
    np.testing.assert_array_equal(replace(moe, experts=source)(x, x, batch), moe(x, x, batch))
    ids, _ = moe.gate(x, batch.is_decoded)
    assert source.asked == [(layer, set(ids.ravel().tolist()))]


def test_no_token_changes_nothing(model: Model) -> None:
    cache = model.new_cache("float32")
    assert model.forward(IDS[:0], cache).shape == (0, model.config.hidden_size)
    assert cache.length == 0


def test_an_interrupted_step_can_be_repeated(model: Model) -> None:
    cache = model.new_cache("float32")
    model.forward(IDS[:10], cache)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    model.on_route = interrupt
    try:
        with pytest.raises(KeyboardInterrupt):
            model.forward(IDS[10:], cache)
    finally:
        model.on_route = None
    resumed = model.forward(IDS[10:], cache)
    whole = model.forward(IDS, model.new_cache("float32"))
    np.testing.assert_allclose(resumed, whole[10:], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("tokens", "per_layer"), [(LONG - 1, (1, 1)), (LONG, (2, 3))])
def test_a_long_step_may_be_stopped_within_a_layer(
    model: Model, tokens: int, per_layer: tuple[int, int]
) -> None:
    cache, dense = model.new_cache(), model.config.first_k_dense_replace
    segment = Segment(np.arange(tokens), cache, absorbed=False)
    asked = []
    model.step([segment], is_unwanted=lambda: asked.append(0) is not None)
    routed = model.config.num_hidden_layers - dense
    assert len(asked) == dense * per_layer[0] + routed * per_layer[1]
    for last in range(len(asked)):
        left = iter([False] * last + [True])
        with pytest.raises(Unwanted):
            model.step([segment], is_unwanted=lambda left=left: next(left))
    assert cache.length == 0


def test_truncating_the_cache_forgets_what_was_drafted(model: Model) -> None:
    cache = model.new_cache("float32")
    model.forward(IDS[:10], cache)
    first = model.forward(IDS[10:12], cache)
    cache.truncate(10)
    model.forward(IDS[:2], cache)
    cache.truncate(10)
    np.testing.assert_array_equal(model.forward(IDS[10:12], cache), first)


def test_backends_agree(model: Model, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v3")
    auto, plain = (load_model(tmp_path, select(name).ops) for name in ("auto", "reference"))
    np.testing.assert_allclose(
        auto.forward(IDS, auto.new_cache("float32")),
        plain.forward(IDS, plain.new_cache("float32")),
        rtol=0,
        atol=1e-4,
    )


def test_a_tied_head_is_the_embedding(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v2-lite", tie_word_embeddings=True)
    model = load_model(tmp_path)
    assert model.lm_head.weight is model.embed_tokens


def test_a_model_without_shared_experts_runs(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v3", n_shared_experts=0)
    model = load_model(tmp_path)
    assert np.isfinite(model.forward(IDS, model.new_cache("float32"))).all()


def test_a_dense_model_runs_and_has_no_router(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v2-lite", first_k_dense_replace=3)
    model = load_model(tmp_path)
    assert model.routers == []
    assert model.on_route is None
    assert np.isfinite(model.forward(IDS, model.new_cache("float32"))).all()
