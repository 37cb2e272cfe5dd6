"""Rotary position embedding and its YaRN extension: which angle each position turns by, and how scores grow.

Angles are made for the positions of a step and for no others: a table up to the longest context would be
tens of megabytes that most runs never read. The rotation itself is `Ops.rope`. Read `attention.py` next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from araio.config import ModelConfig, RopeScaling
from araio.kernels.ops import IntArray
from araio.tensors import Float32Array

__all__ = ["RotaryEmbedding", "Rotation", "softmax_scale"]


@dataclass(frozen=True)
class Rotation:
    """How each token of a step is rotated.

    cos, sin  (T, R / 2) float32
    """

    cos: Float32Array
    sin: Float32Array


class RotaryEmbedding:
    """Angles by position (Su et al. 2021, section 3.2.2; with `rope_scaling`, YaRN: arXiv 2309.00071).

    inverse_frequencies  (R / 2,) float32  radians per position of each pair
    yarn_ratio           `m(mscale) / m(mscale_all_dim)`: multiplies cos and sin; 1 in published checkpoints
    """

    def __init__(self, config: ModelConfig) -> None:
        self.inverse_frequencies = _inverse_frequencies(config)
        self.yarn_ratio = np.float32(_yarn_ratio(config.rope_scaling))

    def __call__(self, positions: IntArray) -> Rotation:
        """The rotation of each of the positions (T,)."""
        # The product is rounded to float32 as in every public implementation of these models: far out, an
        # exact angle would not be the one they were trained with.
        angles = positions.astype(np.float32)[:, None] * self.inverse_frequencies
        return Rotation(np.cos(angles) * self.yarn_ratio, np.sin(angles) * self.yarn_ratio)


def softmax_scale(config: ModelConfig) -> float:
    """What attention scores are multiplied by: `qk_head_dim^-0.5 * m(mscale_all_dim)^2`, at every length.

    The square is there because both query and key of YaRN grow by m (DeepSeek-V2 report, section 3.1.4).
    """
    scale = 1 / math.sqrt(config.qk_head_dim)
    scaling = config.rope_scaling
    return scale if scaling is None else scale * scaling.temperature(scaling.mscale_all_dim) ** 2


def _yarn_ratio(scaling: RopeScaling | None) -> float:
    if scaling is None:
        return 1.0
    return scaling.temperature(scaling.mscale) / scaling.temperature(scaling.mscale_all_dim)


def _inverse_frequencies(config: ModelConfig) -> Float32Array:
    """`theta^(-2i / R)`; YaRN divides those of slow pairs by the factor, with a ramp up to the fast ones."""
    R = config.qk_rope_head_dim
    frequencies = np.power(config.rope_theta, -np.arange(0, R, 2) / R)
    scaling = config.rope_scaling
    if scaling is not None:
        first = math.floor(_pair_that_turns(scaling.beta_fast, scaling, config))
        last = math.ceil(_pair_that_turns(scaling.beta_slow, scaling, config))
        first, last = max(first, 0), min(last, R - 1)
        # A ramp of no width is a step; the published code widens it by as much.
        width = last - first or 0.001
        interpolated = np.clip((np.arange(R // 2) - first) / width, 0.0, 1.0)
        frequencies = frequencies * (1.0 - interpolated + interpolated / scaling.factor)
    return frequencies.astype(np.float32)


def _pair_that_turns(turns: float, scaling: RopeScaling, config: ModelConfig) -> float:
    """Index, as a real number, of the pair that makes so many turns within the original context."""
    radius = scaling.original_max_position_embeddings / (turns * 2 * math.pi)
    return config.qk_rope_head_dim * math.log(radius) / (2 * math.log(config.rope_theta))
