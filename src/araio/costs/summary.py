"""One model's numbers as a JSON document: what `araio show --json` prints, and its table is made of.

Sizes are in parameters and bytes, counted from the config alone by `parameters.py`; what a token takes at a
context, by `flops.py` and `traffic.py`.
"""

from __future__ import annotations

from typing import Any

from araio.config import ModelConfig
from araio.costs.flops import decode_flops, prefill_flops
from araio.costs.parameters import Size, cache_bytes_per_token, count_parameters
from araio.costs.storage import Storage
from araio.costs.traffic import decode_bytes
from araio.errors import CostError

__all__ = ["summarize"]

_ATTENTION_KEYS = (
    "num_attention_heads",
    "q_lora_rank",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
)


def summarize(
    config: ModelConfig, storage: Storage | None = None, context: int | None = None
) -> dict[str, Any]:
    """Parameters by part, bytes of weights and cache, and the keys that say what kind of model it is.

    storage  how the weights are stored; as the config publishes them unless given
    context  adds what one token takes that attends to so many positions, and a prompt of as many

    Raises CostError for a context of none, and for a longer one than the model's.
    """
    counted = count_parameters(config, storage)
    return {
        "model_type": config.model_type,
        "parameters": {
            "total": counted.model.total,
            "active": counted.model.active,
            "active_with_embedding": counted.active_with_embedding,
        },
        "parts": {name: _part(size) for name, size in counted.parts.items()},
        "mtp": _part(counted.mtp) if config.mtp_layers else None,
        "weight_bytes": counted.model.bytes,
        "active_weight_bytes": counted.model.active_bytes,
        "cache_bytes_per_token": cache_bytes_per_token(config),
        "context": config.max_position_embeddings,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocab_size": config.vocab_size,
        "attention": {key: getattr(config, key) for key in _ATTENTION_KEYS},
        "experts": _experts(config) if config.moe_layers else None,
        "rope": {
            "theta": config.rope_theta,
            "yarn": vars(config.rope_scaling) if config.rope_scaling else None,
        },
        "quantization": _quantization(config),
        "at_context": _at_context(config, storage, context) if context is not None else None,
    }


def _at_context(config: ModelConfig, storage: Storage | None, context: int) -> dict[str, Any]:
    if context > config.max_position_embeddings:
        raise CostError(
            f"context is {context:,} tokens; this model's is {config.max_position_embeddings:,} at most"
        )
    flops, read = decode_flops(config, context), decode_bytes(config, 1, context, storage)
    return {
        "context": context,
        "decode_flops": {"weights": flops.weights, "attention": flops.attention},
        "decode_bytes": {"dense": read.dense, "experts": read.experts, "cache": read.cache},
        "prefill_flops": prefill_flops(config, context).total,
    }


def _part(size: Size) -> dict[str, int]:
    return {"total": size.total, "active": size.active, "bytes": size.bytes}


def _experts(config: ModelConfig) -> dict[str, Any]:
    return {
        "layers": len(config.moe_layers),
        "routed": config.n_routed_experts,
        "shared": config.n_shared_experts,
        "active": config.num_experts_per_tok,
        "width": config.moe_intermediate_size,
        "groups": config.n_group,
        "groups_per_token": config.topk_group,
        "router": config.topk_method,
        "scoring": config.scoring_func,
        "normalized": config.norm_topk_prob,
        "scale": config.routed_scaling_factor,
    }


def _quantization(config: ModelConfig) -> dict[str, Any] | None:
    if config.quantization_config is None:
        return None
    block = list(config.quantization_config.weight_block_size)
    return {"format": "e4m3", "block": block, "scale_format": config.quantization_config.scale_fmt}
