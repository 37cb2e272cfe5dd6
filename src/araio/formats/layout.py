"""The tensors that a config calls for: their published names and shapes.

Names and shapes are those of DeepSeek's releases (DeepSeek-V3 `README_WEIGHTS.md` and the Hugging Face
modelling code). Scales of quantised weights are not listed here: whether a weight is quantised is decided by
how it is stored. `checkpoint.py` holds a folder against this list, `nn/` takes the same names as attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import TypeAlias

from araio.config import ModelConfig

__all__ = [
    "EXPERT_MATRICES",
    "can_be_fp8",
    "expected_tensors",
    "expert_of",
    "is_ignored",
    "main_tensors",
    "mtp_tensors",
    "optional_tensors",
    "stays_float32",
]

Named: TypeAlias = Iterator[tuple[str, tuple[int, ...]]]

EXPERT_MATRICES = ("gate_proj", "up_proj", "down_proj")

_EXPERT = re.compile(rf"model\.layers\.(\d+)\.mlp\.experts\.(\d+)\.({'|'.join(EXPERT_MATRICES)})\.weight")
# A buffer that old conversions stored although it follows from the config.
_IGNORED = re.compile(r"(.*\.)?rotary_emb\.inv_freq")
# Projections of attention and experts; embeddings, head, norms, gates and eh_proj are published unquantised.
_CAN_BE_FP8 = re.compile(r".*\.(self_attn|mlp)\..*_proj(_with_mqa)?\.weight")


def expected_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name to shape of every tensor of the main model and of its MTP layers."""
    return dict(chain(main_tensors(config), mtp_tensors(config)))


def main_tensors(config: ModelConfig) -> Named:
    """Name and shape of each of the main model's tensors."""
    table = (config.vocab_size, config.hidden_size)
    yield "model.embed_tokens.weight", table
    for layer in range(config.num_hidden_layers):
        yield from _layer(config, layer)
    yield "model.norm.weight", (config.hidden_size,)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", table


def mtp_tensors(config: ModelConfig) -> Named:
    """Name and shape of each tensor that the MTP layers do not share; they lie behind the main model's."""
    dim = config.hidden_size
    for layer in config.mtp_layers:
        at = f"model.layers.{layer}."
        yield at + "enorm.weight", (dim,)
        yield at + "hnorm.weight", (dim,)
        yield at + "eh_proj.weight", (dim, 2 * dim)
        yield from _layer(config, layer)
        yield at + "shared_head.norm.weight", (dim,)


def optional_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Tensors that a checkpoint may repeat: shared copies in MTP layers, a head tied to the embedding."""
    table = (config.vocab_size, config.hidden_size)
    tensors: dict[str, tuple[int, ...]] = {"lm_head.weight": table} if config.tie_word_embeddings else {}
    for layer in config.mtp_layers:
        tensors[f"model.layers.{layer}.embed_tokens.weight"] = table
        tensors[f"model.layers.{layer}.shared_head.head.weight"] = table
    return tensors


def expert_of(name: str) -> tuple[int, int, str] | None:
    """Layer, expert and matrix of a routed expert's tensor; None for every other tensor."""
    found = _EXPERT.fullmatch(name)
    return (int(found[1]), int(found[2]), found[3]) if found else None


def is_ignored(name: str) -> bool:
    """Whether a stored tensor says nothing that the config does not."""
    return _IGNORED.fullmatch(name) is not None


def can_be_fp8(name: str) -> bool:
    """Whether a weight may be stored as FP8 with a scale per block."""
    return _CAN_BE_FP8.fullmatch(name) is not None


def stays_float32(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a model holds a tensor as float32 however it is stored: routers, norms and biases."""
    return len(shape) < 2 or name.endswith(".mlp.gate.weight")


def _layer(config: ModelConfig, layer: int) -> Named:
    at, dim = f"model.layers.{layer}.", config.hidden_size
    yield at + "input_layernorm.weight", (dim,)
    yield from _attention(config, at + "self_attn.")
    yield at + "post_attention_layernorm.weight", (dim,)
    if not config.is_moe(layer):
        yield from _ffn(at + "mlp.", dim, config.intermediate_size)
        return
    yield at + "mlp.gate.weight", (config.n_routed_experts, dim)
    if config.has_router_bias:
        yield at + "mlp.gate.e_score_correction_bias", (config.n_routed_experts,)
    for expert in range(config.n_routed_experts):
        yield from _ffn(f"{at}mlp.experts.{expert}.", dim, config.moe_intermediate_size)
    if config.n_shared_experts:
        yield from _ffn(
            at + "mlp.shared_experts.", dim, config.n_shared_experts * config.moe_intermediate_size
        )


def _attention(config: ModelConfig, at: str) -> Named:
    dim, heads = config.hidden_size, config.num_attention_heads
    if config.q_lora_rank is None:
        yield at + "q_proj.weight", (heads * config.qk_head_dim, dim)
    else:
        yield at + "q_a_proj.weight", (config.q_lora_rank, dim)
        yield at + "q_a_layernorm.weight", (config.q_lora_rank,)
        yield at + "q_b_proj.weight", (heads * config.qk_head_dim, config.q_lora_rank)
    yield at + "kv_a_proj_with_mqa.weight", (config.latent_dim, dim)
    yield at + "kv_a_layernorm.weight", (config.kv_lora_rank,)
    yield (
        at + "kv_b_proj.weight",
        (heads * (config.qk_nope_head_dim + config.v_head_dim), config.kv_lora_rank),
    )
    yield at + "o_proj.weight", (dim, heads * config.v_head_dim)


def _ffn(at: str, dim: int, width: int) -> Named:
    yield at + "gate_proj.weight", (width, dim)
    yield at + "up_proj.weight", (width, dim)
    yield at + "down_proj.weight", (dim, width)
