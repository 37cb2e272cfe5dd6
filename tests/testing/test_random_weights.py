"""Random models for benchmarks: of the config's shape, stored as asked, and alive."""

import numpy as np
import pytest

from araio.codecs import codec_of
from araio.formats.store_layout import StoreCodecs
from araio.kernels import reference
from araio.testing.checkpoints import FAMILIES, tiny_config
from araio.testing.random_weights import RandomWeights, random_model

CODECS = StoreCodecs(experts="q4", dense="q8", embeddings="bf16")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_random_model_computes_and_spreads_over_its_experts(family) -> None:
    config = tiny_config(family)
    model = random_model(config, CODECS, reference.OPS)
    seen: list[np.ndarray] = []
    model.on_route = lambda layer, ids, weights: seen.append(ids)
    logits = model.logits(model.forward(np.arange(40), model.new_cache()))
    assert np.isfinite(logits).all()
    assert len(np.unique(seen[0])) > config.n_routed_experts / 2


def test_tokens_do_not_come_to_choose_alike_in_deep_layers() -> None:
    config = tiny_config("v2-lite", num_hidden_layers=12, n_routed_experts=32, num_experts_per_tok=4)
    model = random_model(config, CODECS, reference.OPS)
    seen: list[np.ndarray] = []
    model.on_route = lambda layer, ids, weights: seen.append(ids)
    model.forward(np.arange(100), model.new_cache())
    neighbours = zip(seen[-1], seen[-1][1:], strict=False)
    shared = np.mean([len(np.intersect1d(one, other)) for one, other in neighbours])
    assert shared < 2 * config.num_experts_per_tok**2 / config.n_routed_experts  # twice what chance gives


def test_a_tensor_depends_on_seed_and_name_and_has_its_class_codec() -> None:
    config = tiny_config("v3")
    expert, dense = (
        f"model.layers.1.{part}.weight" for part in ("mlp.experts.3.up_proj", "self_attn.o_proj")
    )
    one, again, other = (RandomWeights(config, CODECS, seed).read_weight(expert) for seed in (0, 0, 1))
    assert codec_of(one).name == "q4"
    np.testing.assert_array_equal(one.data, again.data)
    assert (one.data != other.data).any()
    assert codec_of(RandomWeights(config, CODECS).read_weight(dense)).name == "q8"
