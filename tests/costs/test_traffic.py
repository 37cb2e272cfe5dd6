"""Bytes of a decoding step in closed form against those of the weights that a running model reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.config import ModelConfig
from araio.costs.storage import Storage
from araio.costs.traffic import decode_bytes, expected_experts, experts_in_routes
from araio.errors import CostError
from araio.formats.store_layout import StoreCodecs
from araio.nn.batch import Segment
from araio.nn.kv_cache import LatentCache
from araio.nn.model import Model
from araio.testing.checkpoints import FAMILIES, tiny_config
from araio.testing.random_weights import random_model
from araio.weights.load import load_model
from araio.weights.locate import locate, locate_config

from .conftest import configs
from .recorder import Recorder

CODECS = st.sampled_from(
    [("f32", "f32", "f32"), ("fp8", "fp8", "bf16"), ("q4", "q8", "bf16"), ("q8", "bf16", "q4")]
)


def decode_one_step(model: Model, recorder: Recorder, batch: int, context: int) -> np.ndarray:
    """Run a step of `batch` sequences; what it read is in the recorder. Returns its routes (B, L, K)."""
    rng = np.random.default_rng(0)
    config, pool = model.config, model.new_pool(batch * 128)
    caches = [LatentCache(pool) for _ in range(batch)]
    for cache in caches:
        if context > 1:
            model.forward(rng.integers(0, config.vocab_size, context - 1), cache)
    recorder.reset()
    model.logits(model.step([Segment(rng.integers(0, config.vocab_size, 1), c, True) for c in caches]))
    return np.stack(recorder.routes, axis=1) if recorder.routes else np.zeros((batch, 0, 0), int)


def check_one_step(model: Model, recorder: Recorder, storage: Storage, batch: int, context: int) -> None:
    routes = decode_one_step(model, recorder, batch, context)
    experts = experts_in_routes(routes, batch) if routes.size else None
    step = decode_bytes(model.config, batch, context, storage, experts)
    assert step.dense + step.experts == recorder.weight_bytes
    assert step.cache == recorder.cache_bytes


@settings(max_examples=40)
@given(configs(), CODECS, st.integers(1, 4), st.integers(1, 6))
def test_random_models_read_what_is_counted(config, codecs, batch, context):
    recorder = Recorder()
    model = random_model(config, StoreCodecs(*codecs), recorder.ops)
    check_one_step(model, recorder, Storage(*codecs), batch, context)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [1, 5])
def test_every_family_reads_what_is_counted(family, batch):
    recorder = Recorder()
    model = random_model(tiny_config(family), StoreCodecs("fp8", "fp8", "bf16"), recorder.ops)
    check_one_step(model, recorder, Storage("fp8", "fp8", "bf16"), batch, context=4)


def test_pocket_reads_what_is_counted():
    """As published, but that the loader keeps routers and norms in float32."""
    recorder = Recorder()
    model = load_model(locate("pocket"), recorder.ops)
    published = Storage.published(model.config)
    storage = Storage(published.experts, published.dense, published.embeddings, small="f32")
    check_one_step(model, recorder, storage, batch=3, context=9)


# ---------------------------------------------------------------------- experts of a batch


@given(st.integers(1, 50), st.data())
def test_expected_experts_stay_within_what_is_possible(routed, data):
    chosen, batch = data.draw(st.integers(1, routed)), data.draw(st.integers(1, 400))
    expected = expected_experts(routed, chosen, batch)
    assert chosen * (1 - 1e-9) <= expected <= min(routed, chosen * batch) * (1 + 1e-9)


def test_uniform_routes_touch_what_is_expected():
    rng = np.random.default_rng(1)
    routes = rng.permuted(np.tile(np.arange(64), (4096, 2, 1)), axis=2)[..., :6]
    for batch in (1, 4, 32):
        assert experts_in_routes(routes, batch) == pytest.approx(expected_experts(64, 6, batch), rel=0.01)


def test_distinct_experts_of_known_routes():
    routes = np.array([[[0, 1], [0, 1]], [[1, 2], [0, 1]], [[5, 6], [7, 8]]])
    assert experts_in_routes(routes, 1) == 2
    assert experts_in_routes(routes, 2) == 2.5  # 3 in one layer, 2 in the other; the third token is left over
    assert experts_in_routes(routes, 3) == 4.5


def test_a_batch_reads_the_dense_weights_once_and_an_expert_once(r1):
    one, many = decode_bytes(r1, 1, 1), decode_bytes(r1, 64, 1)
    row = 2 * r1.hidden_size
    assert many.dense - one.dense == 63 * row
    assert one.experts < many.experts < 64 * one.experts
    all_of_them = decode_bytes(r1, 64, 1, experts=256)
    assert all_of_them.experts == 58 * 256 * 44_050_944
    assert many.cache == 64 * 70_272


def test_without_experts_there_are_none_to_count():
    dense = ModelConfig.from_dict(locate_config("deepseek-v2-lite").to_dict() | {"n_routed_experts": 0})
    assert decode_bytes(dense, 8, 100).experts == 0
    with pytest.raises(CostError, match="no layer of this deepseek_v2 config routes to experts"):
        decode_bytes(dense, 8, 100, experts=4)


@pytest.mark.parametrize(
    ("count", "found"),
    [
        (lambda config: decode_bytes(config, 0, 1), "batch is 0; expected a whole number of at least 1"),
        (lambda config: decode_bytes(config, 1, 0), "context is 0"),
        (lambda config: decode_bytes(config, 2, 1, experts=7), "experts is 7; 2 tokens touch 8 to 16"),
        (
            lambda config: decode_bytes(config, 99, 1, experts=257),
            "99 tokens touch 8 to 256 of a layer's 256",
        ),
        (lambda config: decode_bytes(config, 1, 1, experts=float("nan")), "experts is nan"),
        (lambda _: expected_experts(8, 9, 1), "chosen is 9; a token chooses at most the 8 routed experts"),
        (lambda _: experts_in_routes(np.zeros((4, 2), int), 1), r"routes have the shape \[4, 2\]"),
        (lambda _: experts_in_routes(np.zeros((3, 1, 2), int), 4), "routes hold 3 tokens; .* batch = 4"),
    ],
)
def test_what_nothing_can_be_counted_with_is_refused(r1, count, found):
    with pytest.raises(CostError, match=found):
        count(r1)
