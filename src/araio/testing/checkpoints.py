"""Tiny random checkpoints of each supported architecture: small enough to load in a test, real in every key.

A tensor's values depend on the seed and on its name alone, so a checkpoint is the same on every machine, and
adding a layer does not change the others. The text they make is noise. The tokenizer is that of
`tokenizers.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from araio.codecs import codec
from araio.config import ModelConfig
from araio.formats.layout import can_be_fp8, expected_tensors
from araio.formats.write import write_checkpoint
from araio.tensors import Float32Array, Weight
from araio.testing.tokenizers import TINY_VOCAB_SIZE, write_tiny_tokenizer

__all__ = ["FAMILIES", "random_tensors", "tiny_config", "write_tiny_checkpoint"]

_COMMON: dict[str, Any] = {
    "vocab_size": TINY_VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "hidden_act": "silu",
    "attention_bias": False,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "rope_theta": 10000,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def _yarn(mscale: float) -> dict[str, Any]:
    """Context of 256 positions over an original one of 32, so that short tests reach beyond it."""
    return {
        "max_position_embeddings": 256,
        "rope_scaling": {
            "type": "yarn",
            "factor": 8,
            "original_max_position_embeddings": 32,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": mscale,
            "mscale_all_dim": mscale,
        },
    }


_V2_LITE = _COMMON | _yarn(0.707) | {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "q_lora_rank": None,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
    "scoring_func": "softmax",
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
}  # fmt: skip

_V2 = _V2_LITE | _yarn(1.0) | {
    "q_lora_rank": 24,
    "n_routed_experts": 16,
    "n_group": 4,
    "topk_group": 2,
    "topk_method": "group_limited_greedy",
    "routed_scaling_factor": 16.0,
}  # fmt: skip

_V3 = _V2 | {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "num_nextn_predict_layers": 1,
}

# No size is a multiple of 128, so every matrix has partial blocks at its edges.
_V3_FP8 = _V3 | {
    "hidden_size": 160,
    "intermediate_size": 200,
    "num_hidden_layers": 2,
    "q_lora_rank": 136,
    "kv_lora_rank": 132,
    "moe_intermediate_size": 144,
    "n_routed_experts": 8,
    "quantization_config": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    },
}

# Moonlight's: the router of V3 without groups, the query of V2-Lite, two shared experts.
_MOONLIGHT = _V3 | {
    "q_lora_rank": None,
    "n_shared_experts": 2,
    "n_group": 1,
    "topk_group": 1,
    "num_nextn_predict_layers": 0,
    "routed_scaling_factor": 2.446,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "v2-lite": _V2_LITE,
    "v2": _V2,
    "v3": _V3,
    "v3-fp8": _V3_FP8,
    "moonlight": _MOONLIGHT,
}
"""`config.json` of each family, by name."""


def tiny_config(family: str, **overrides: Any) -> ModelConfig:
    """The config of a family, some of its keys replaced."""
    return ModelConfig.from_dict(FAMILIES[family] | overrides)


def write_tiny_checkpoint(folder: Path, family: str, seed: int = 0, **overrides: Any) -> ModelConfig:
    """Write a whole model folder: config, tokenizer, and random weights as DeepSeek stores them.

    Weights are bfloat16, router biases float32, and the projections of `v3-fp8` are FP8.

    family     a key of `FAMILIES`
    overrides  keys of `config.json` to replace
    returns    the config that was written
    """
    config = tiny_config(family, **overrides)
    folder.mkdir(parents=True, exist_ok=True)
    config.save(folder / "config.json")
    write_tiny_tokenizer(folder)
    write_checkpoint(folder, _stored(config, seed), max_shard_bytes=1 << 20)
    return config


def random_tensors(config: ModelConfig, seed: int = 0) -> Iterator[tuple[str, Float32Array]]:
    """Every tensor the config calls for, in float32, scaled so that activations stay near 1."""
    for name, shape in expected_tensors(config).items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = rng.standard_normal(shape)
        if name.endswith("e_score_correction_bias"):
            # Below -1 every biased score is negative, which is where a group mask of 0 would go wrong.
            values = 0.05 * values - 1.5
        elif len(shape) == 1:
            values = 1.0 + 0.1 * values
        elif not name.endswith("embed_tokens.weight"):
            values /= np.sqrt(shape[1])
        yield name, values.astype(np.float32)


def _stored(config: ModelConfig, seed: int) -> Iterator[tuple[str, Weight]]:
    for name, values in random_tensors(config, seed):
        if name.endswith("e_score_correction_bias"):
            yield name, values  # float32 in every published checkpoint
        elif config.quantization_config is not None and can_be_fp8(name):
            yield name, codec("fp8", config.quantization_config.weight_block_size).encode(values)
        else:
            yield name, codec("bf16").encode(values)
