"""Counts against published figures, and against the list of tensors over random configs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.config import ModelConfig, QuantizationConfig
from araio.costs.parameters import cache_bytes_per_token, count_parameters
from araio.costs.summary import summarize
from araio.formats.layout import can_be_fp8, main_tensors, mtp_tensors
from araio.weights.locate import PRESETS

# From the published config.json of each model. The reports give 671B/37B, 236B/21B and 15.7B/2.4B.
PUBLISHED = {
    "deepseek-r1": {
        "embedding": 926_679_040,
        "attention": 11_413_547_008,
        "dense_ffn": 1_189_085_184,
        "routed_experts": 653_908_770_816,
        "shared_experts": 2_554_331_136,
        "gates": 106_430_464,
        "gate_bias": 14_848,
        "norms": 881_664,
        "head": 926_679_040,
        "total": 671_026_419_200,
        "active": 36_625_618_432,
        "active_with_embedding": 37_552_297_472,
        "cache": 70_272,
    },
    "deepseek-v2": {
        "embedding": 524_288_000,
        "attention": 8_953_651_200,
        "dense_ffn": 188_743_680,
        "routed_experts": 222_717_542_400,
        "shared_experts": 2_783_969_280,
        "gates": 48_332_800,
        "gate_bias": 0,
        "norms": 619_520,
        "head": 524_288_000,
        "total": 235_741_434_880,
        "active": 20_851_512_320,
        "active_with_embedding": 21_375_800_320,
        "cache": 69_120,
    },
    "deepseek-v2-lite": {
        "embedding": 209_715_200,
        "attention": 371_602_944,
        "dense_ffn": 67_239_936,
        "routed_experts": 14_394_851_328,
        "shared_experts": 449_839_104,
        "gates": 3_407_872,
        "gate_bias": 0,
        "norms": 112_640,
        "head": 209_715_200,
        "total": 15_706_484_224,
        "active": 2_451_435_008,
        "active_with_embedding": 2_661_150_208,
        "cache": 31_104,
    },
}


@pytest.fixture
def r1() -> ModelConfig:
    return ModelConfig.from_file(PRESETS["deepseek-r1"])


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_counts(preset):
    config = ModelConfig.from_file(PRESETS[preset])
    counted = count_parameters(config)
    found = {name: part.total for name, part in counted.parts.items()} | {
        "total": counted.model.total,
        "active": counted.model.active,
        "active_with_embedding": counted.active_with_embedding,
        "cache": cache_bytes_per_token(config),
    }
    assert found == PUBLISHED[preset]


def test_kimi_k2_is_a_trillion_with_32_billion_active():
    model = count_parameters(ModelConfig.from_file(PRESETS["kimi-k2"])).model
    assert (round(model.total, -9), round(model.active, -9)) == (1_026_000_000_000, 32_000_000_000)


def test_r1_mtp_module(r1):
    assert count_parameters(r1).mtp.total == 11_610_068_224


def test_r1_bytes(r1):
    """The FP8 release without layer 61, and what one token reads of it, with one row of the embedding."""
    model = count_parameters(r1).model
    assert model.bytes == 673_150_611_808
    assert model.active_bytes + r1.hidden_size * 2 == 37_668_489_568


@pytest.mark.parametrize(("dtype", "bytes_per_number"), [("float32", 4), ("bfloat16", 2), (None, 2), ([], 2)])
def test_bytes_follow_the_stated_dtype(dtype, bytes_per_number):
    lite = ModelConfig.from_file(PRESETS["deepseek-v2-lite"])
    counted = count_parameters(replace(lite, source=lite.source | {"torch_dtype": dtype})).model
    assert counted.bytes == counted.total * bytes_per_number


def test_a_tied_head_counts_once_and_is_used(r1):
    counted = count_parameters(replace(r1, tie_word_embeddings=True))
    assert counted.model.total == 671_026_419_200 - 926_679_040
    assert counted.model.active == counted.active_with_embedding == 36_625_618_432


def test_summary_agrees_with_itself(r1):
    summary = summarize(r1)
    assert sum(part["total"] for part in summary["parts"].values()) == summary["parameters"]["total"]
    assert summary["experts"]["layers"] == 58
    assert summarize(replace(r1, n_routed_experts=0))["experts"] is None


# ---------------------------------------------------------------------- every config

SIZE = st.integers(1, 40)
SIZED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "v_head_dim",
)


@st.composite
def configs(draw) -> ModelConfig:
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    layers = draw(st.integers(1, 4))
    method, scoring = draw(st.sampled_from([("greedy", "softmax"), ("noaux_tc", "sigmoid")]))
    return ModelConfig(
        model_type="deepseek_v3",
        **{name: draw(SIZE) for name in SIZED},
        num_hidden_layers=layers,
        max_position_embeddings=64,
        q_lora_rank=draw(st.none() | SIZE),
        qk_rope_head_dim=2 * draw(SIZE),
        moe_intermediate_size=draw(SIZE),
        n_routed_experts=draw(st.sampled_from([0, groups * per_group])),
        n_shared_experts=draw(st.integers(0, 2)),
        num_experts_per_tok=draw(st.integers(1, per_group)),
        first_k_dense_replace=draw(st.integers(0, layers)),
        topk_method=method,
        scoring_func=scoring,
        n_group=groups,
        num_nextn_predict_layers=draw(st.integers(0, 2)),
        tie_word_embeddings=draw(st.booleans()),
        quantization_config=draw(
            st.none() | st.builds(QuantizationConfig, st.tuples(st.integers(1, 20), st.integers(1, 20)))
        ),
    )


def stored_bytes(config: ModelConfig, name: str, shape: tuple[int, ...]) -> int:
    if name.endswith("e_score_correction_bias"):
        return 4 * math.prod(shape)
    if config.quantization_config is None or not can_be_fp8(name):
        return 2 * math.prod(shape)
    rows, columns = config.quantization_config.weight_block_size
    return math.prod(shape) + 4 * -(-shape[0] // rows) * -(-shape[1] // columns)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(configs())
def test_closed_form_equals_the_list_of_tensors(config):
    counted = count_parameters(config)
    main, mtp = dict(main_tensors(config)), dict(mtp_tensors(config))
    assert counted.model.total == sum(map(math.prod, main.values()))
    assert counted.mtp.total == sum(map(math.prod, mtp.values()))
    assert counted.model.bytes == sum(stored_bytes(config, *item) for item in main.items())
    assert counted.mtp.bytes == sum(stored_bytes(config, *item) for item in mtp.items())


@settings(derandomize=True, deadline=None, max_examples=100)
@given(configs())
def test_active_is_the_list_with_the_first_chosen_experts(config):
    unused = {f".experts.{expert}." for expert in range(config.num_experts_per_tok, config.n_routed_experts)}
    used = {n: s for n, s in main_tensors(config) if not any(expert in n for expert in unused)}
    counted = count_parameters(config)
    assert counted.active_with_embedding == sum(map(math.prod, used.values()))
    table = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    assert counted.model.active == counted.active_with_embedding - table
