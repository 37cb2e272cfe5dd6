"""Angles and scales against the published constants and against transformers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3RotaryEmbedding

from araio.config import ModelConfig, RopeScaling
from araio.nn.rope import RotaryEmbedding, softmax_scale
from araio.testing.checkpoints import tiny_config


def published(mscale: float, mscale_all_dim: float) -> ModelConfig:
    """The attention of DeepSeek-V3 (mscale 1) or V2-Lite (0.707)."""
    scaling = RopeScaling(
        factor=40,
        original_max_position_embeddings=4096,
        beta_fast=32,
        beta_slow=1,
        mscale=mscale,
        mscale_all_dim=mscale_all_dim,
    )
    return replace(
        tiny_config("v3"),
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        max_position_embeddings=163840,
        rope_scaling=scaling,
    )


def theirs(config: ModelConfig, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaling = config.rope_scaling
    parameters = {"rope_theta": config.rope_theta, "rope_type": "default"}
    if scaling is not None:
        parameters |= {"rope_type": "yarn"} | vars(scaling)
    hf_config = DeepseekV3Config(
        qk_rope_head_dim=config.qk_rope_head_dim,
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters=parameters,
    )
    cos, sin = DeepseekV3RotaryEmbedding(hf_config)(torch.zeros(1), torch.from_numpy(positions)[None])
    half = config.qk_rope_head_dim // 2
    return cos[0, :, :half].numpy(), sin[0, :, :half].numpy()


@pytest.mark.parametrize(
    "config",
    [
        published(1.0, 1.0),
        published(0.707, 0.707),
        published(1.0, 0.5),
        replace(published(1.0, 1.0), rope_scaling=None),
        tiny_config("v3"),
        tiny_config("v2-lite"),
    ],
)
@pytest.mark.parametrize("start", [0, 4000, 20_000])
def test_rotations_are_transformers(config: ModelConfig, start: int) -> None:
    rotation = RotaryEmbedding(config)(np.arange(start, start + 200))
    cos, sin = theirs(config, np.arange(start, start + 200))
    # A last bit of the frequency becomes `position * 2^-24` of angle; both implementations have that error.
    tolerance = {"rtol": 0, "atol": 1e-6 + 2.0**-23 * (start + 200)}
    np.testing.assert_allclose(rotation.cos, cos, **tolerance)
    np.testing.assert_allclose(rotation.sin, sin, **tolerance)


@pytest.mark.parametrize("start", [0, 3000, 130_000])
def test_a_rotation_depends_on_its_position_alone(start: int) -> None:
    rotary, positions = RotaryEmbedding(published(1.0, 1.0)), np.arange(start, start + 300)
    whole = rotary(positions)
    for at in (slice(0, 1), slice(1, 8), slice(299, 300), slice(7, 250), slice(None, None, -3)):
        np.testing.assert_array_equal(rotary(positions[at]).cos, whole.cos[at])
        np.testing.assert_array_equal(rotary(positions[at]).sin, whole.sin[at])


def test_the_softmax_scale_has_the_published_value() -> None:
    assert softmax_scale(published(1.0, 1.0)) == pytest.approx(0.1352338, abs=1e-7)
    assert softmax_scale(published(0.707, 0.707)) == pytest.approx(192**-0.5 * 1.58963, rel=1e-5)
    assert softmax_scale(replace(published(1.0, 1.0), rope_scaling=None)) == pytest.approx(192**-0.5)


def test_a_factor_of_one_changes_nothing() -> None:
    config = published(1.0, 1.0)
    assert config.rope_scaling is not None
    still = replace(config, rope_scaling=replace(config.rope_scaling, factor=1.0))
    plain = replace(config, rope_scaling=None)
    assert softmax_scale(still) == softmax_scale(plain)
    np.testing.assert_array_equal(
        RotaryEmbedding(still)(np.arange(9)).sin, RotaryEmbedding(plain)(np.arange(9)).sin
    )
