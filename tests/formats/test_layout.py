"""The list of expected tensors, against the published names and shapes of DeepSeek's releases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from araio.config import ModelConfig
from araio.formats.layout import can_be_fp8, expected_tensors, is_ignored, optional_tensors
from araio.weights.locate import PRESETS


@pytest.fixture(scope="module")
def r1():
    return ModelConfig.from_file(PRESETS["deepseek-r1"])


def test_r1_shapes(r1):
    """As `README_WEIGHTS.md` and the published index have them."""
    tensors = expected_tensors(r1)
    attention, mlp = "model.layers.60.self_attn.", "model.layers.60.mlp."
    published = {
        "model.embed_tokens.weight": (129280, 7168),
        "lm_head.weight": (129280, 7168),
        "model.norm.weight": (7168,),
        attention + "q_a_proj.weight": (1536, 7168),
        attention + "q_a_layernorm.weight": (1536,),
        attention + "q_b_proj.weight": (24576, 1536),
        attention + "kv_a_proj_with_mqa.weight": (576, 7168),
        attention + "kv_a_layernorm.weight": (512,),
        attention + "kv_b_proj.weight": (32768, 512),
        attention + "o_proj.weight": (7168, 16384),
        mlp + "gate.weight": (256, 7168),
        mlp + "gate.e_score_correction_bias": (256,),
        mlp + "experts.255.up_proj.weight": (2048, 7168),
        mlp + "experts.255.down_proj.weight": (7168, 2048),
        mlp + "shared_experts.gate_proj.weight": (2048, 7168),
        "model.layers.2.mlp.down_proj.weight": (7168, 18432),
        "model.layers.61.eh_proj.weight": (7168, 14336),
        "model.layers.61.shared_head.norm.weight": (7168,),
        "model.layers.61.mlp.experts.0.gate_proj.weight": (2048, 7168),
    }
    assert {name: tensors.get(name) for name in published} == published
    # The published index has 91,991 names: these, a scale for each FP8 weight, and two shared copies.
    scales = sum(can_be_fp8(name) for name in tensors)
    assert len(tensors) + scales + len(optional_tensors(r1)) == 91_991


def test_without_query_compression_and_bias():
    tensors = expected_tensors(ModelConfig.from_file(PRESETS["deepseek-v2-lite"]))
    assert tensors["model.layers.0.self_attn.q_proj.weight"] == (3072, 2048)
    assert tensors["model.layers.1.mlp.shared_experts.up_proj.weight"] == (2816, 2048)
    assert not any("q_a_proj" in name or "bias" in name or "eh_proj" in name for name in tensors)


def test_a_tied_head_is_optional(r1):
    tied = replace(r1, tie_word_embeddings=True)
    assert "lm_head.weight" not in expected_tensors(tied)
    assert optional_tensors(tied)["lm_head.weight"] == (129280, 7168)


def test_what_may_be_fp8():
    at = "model.layers.3."
    assert can_be_fp8(at + "self_attn.kv_a_proj_with_mqa.weight")
    assert can_be_fp8(at + "mlp.experts.7.down_proj.weight")
    for name in (
        "mlp.gate.weight",
        "eh_proj.weight",
        "input_layernorm.weight",
        "self_attn.q_a_layernorm.weight",
    ):
        assert not can_be_fp8(at + name)
    assert not can_be_fp8("lm_head.weight")


def test_what_is_ignored():
    assert is_ignored("model.layers.0.self_attn.rotary_emb.inv_freq")
    assert not is_ignored("model.layers.0.self_attn.rotary_emb.weight")
