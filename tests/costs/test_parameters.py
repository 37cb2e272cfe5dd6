"""Counts against published figures, and against the list of tensors over random configs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.codecs import codec
from araio.config import ModelConfig
from araio.costs.parameters import cache_bytes_per_token, count_parameters, elements_by_type
from araio.costs.storage import Storage
from araio.costs.summary import summarize
from araio.errors import FormatError
from araio.formats.layout import can_be_fp8, main_tensors, mtp_tensors
from araio.formats.store_layout import StoreCodecs
from araio.weights.locate import PRESETS

from .conftest import configs

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


STORES = st.sampled_from(
    [("q4", "q8", "bf16"), ("fp8", "fp8", "f32"), ("f32", "q4", "q8"), ("bf16", "fp8", "q4")]
)


@settings(max_examples=100)
@given(configs(), STORES)
def test_a_store_in_closed_form_equals_its_list_of_tensors(config, codecs):
    stored, block = StoreCodecs(*codecs), fp8_block(config)
    counted = count_parameters(config, Storage(*codecs))
    for size, tensors in ((counted.model, main_tensors(config)), (counted.mtp, mtp_tensors(config))):
        assert size.bytes == sum(stored.of(name, shape, block).bytes(shape) for name, shape in tensors)


@given(configs())
def test_numbers_by_type_equal_the_list_of_tensors(config):
    expected = Counter()
    for name, shape in [*main_tensors(config), *mtp_tensors(config)]:
        is_quantized = config.quantization_config is not None and can_be_fp8(name)
        stored = codec(
            "f32" if name.endswith("bias") else "fp8" if is_quantized else "bf16", fp8_block(config)
        )
        expected.update({part.stored_as: math.prod(part.shape) for part in stored.parts(shape)})
    assert elements_by_type(config, with_mtp_copies=False) == expected


def fp8_block(config: ModelConfig) -> tuple[int, int]:
    return config.quantization_config.weight_block_size if config.quantization_config else (128, 128)


def test_a_codec_that_does_not_exist_is_refused():
    with pytest.raises(FormatError, match="codec 'q5' is unknown; expected one of f32, bf16, fp8, q8, q4"):
        Storage("q5", "q8", "bf16")


@settings(derandomize=True, deadline=None, max_examples=100)
@given(configs())
def test_active_is_the_list_with_the_first_chosen_experts(config):
    unused = {f".experts.{expert}." for expert in range(config.num_experts_per_tok, config.n_routed_experts)}
    used = {n: s for n, s in main_tensors(config) if not any(expert in n for expert in unused)}
    counted = count_parameters(config)
    assert counted.active_with_embedding == sum(map(math.prod, used.values()))
    table = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    assert counted.model.active == counted.active_with_embedding - table
