"""`census`: every tensor that a config calls for, in closed form: alike ones once, with how many there are.

The list of `formats/layout.py` has 91,000 names for DeepSeek-V3; this one has two dozen lines for any model.
Parameters, bytes and multiplications are sums over it. Read `parameters.py` and `flops.py` for those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from araio.config import ModelConfig
from araio.costs.storage import WeightClass

__all__ = ["TensorGroup", "census"]


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of one shape, class and part.

    part     a field of `parameters.Parameters`
    weights  what decides how they are stored
    shape    of one of them
    count    how many the model has
    used     how many of them a token is multiplied with
    """

    part: str
    weights: WeightClass
    shape: tuple[int, ...]
    count: int
    used: int

    @property
    def size(self) -> int:
        """Parameters of one tensor."""
        return prod(self.shape)


def census(config: ModelConfig) -> Iterator[TensorGroup]:
    """Every tensor of the main model and of its MTP modules (DeepSeek-V2 and V3 reports, section 2).

    Of the embedding a token reads one row and multiplies with none, so it is used only where it is the output
    matrix as well.
    """
    table = (config.vocab_size, config.hidden_size)
    layers, routing = config.num_hidden_layers, len(config.moe_layers)
    yield TensorGroup("embedding", "embeddings", table, 1, int(config.tie_word_embeddings))
    for tensor in _attention(config):
        yield _times(tensor, layers)
    for tensor in _ffn("dense_ffn", "dense", config.hidden_size, config.intermediate_size):
        yield _times(tensor, layers - routing)
    for tensor in _mixture(config):
        yield _times(tensor, routing)
    yield TensorGroup("norms", "small", (config.hidden_size,), 2 * layers + 1, 2 * layers + 1)
    if not config.tie_word_embeddings:
        yield TensorGroup("head", "embeddings", table, 1, 1)
    for layer in config.mtp_layers:
        for tensor in _mtp(config, layer):
            yield replace(tensor, part="mtp")


def _times(tensor: TensorGroup, layers: int) -> TensorGroup:
    return replace(tensor, count=tensor.count * layers, used=tensor.used * layers)


def _one(part: str, weights: WeightClass, *shape: int) -> TensorGroup:
    return TensorGroup(part, weights, shape, 1, 1)


def _attention(config: ModelConfig) -> Iterator[TensorGroup]:
    """One layer's latent attention with the norms inside it (DeepSeek-V2 report, equations 9 to 19)."""
    dim, heads, latent = config.hidden_size, config.num_attention_heads, config.kv_lora_rank
    if config.q_lora_rank is None:
        yield _one("attention", "dense", heads * config.qk_head_dim, dim)
    else:
        yield _one("attention", "dense", config.q_lora_rank, dim)
        yield _one("attention", "small", config.q_lora_rank)
        yield _one("attention", "dense", heads * config.qk_head_dim, config.q_lora_rank)
    yield _one("attention", "dense", config.latent_dim, dim)
    yield _one("attention", "small", latent)
    yield _one("attention", "dense", heads * (config.qk_nope_head_dim + config.v_head_dim), latent)
    yield _one("attention", "dense", dim, heads * config.v_head_dim)


def _ffn(part: str, weights: WeightClass, dim: int, width: int) -> Iterator[TensorGroup]:
    """A gated feed-forward network: gate and up, then down."""
    yield TensorGroup(part, weights, (width, dim), 2, 2)
    yield _one(part, weights, dim, width)


def _mixture(config: ModelConfig) -> Iterator[TensorGroup]:
    """One routed layer (DeepSeek-V3 report, equations 12 to 16); shared experts are one wide network."""
    dim, routed, width = config.hidden_size, config.n_routed_experts, config.moe_intermediate_size
    for tensor in _ffn("routed_experts", "experts", dim, width):
        chosen = tensor.used * config.num_experts_per_tok
        yield replace(tensor, count=tensor.count * routed, used=chosen)
    if config.n_shared_experts:
        yield from _ffn("shared_experts", "dense", dim, config.n_shared_experts * width)
    yield _one("gates", "small", routed, dim)
    if config.has_router_bias:
        yield _one("gate_bias", "bias", routed)


def _mtp(config: ModelConfig, layer: int) -> Iterator[TensorGroup]:
    """One MTP module without the embedding and head that it shares (V3 report, section 2.2)."""
    dim = config.hidden_size
    yield from _attention(config)
    if config.is_moe(layer):
        yield from _mixture(config)
    else:
        yield from _ffn("mtp", "dense", dim, config.intermediate_size)
    # Two norms of the layer, then enorm, hnorm and shared_head.norm.
    yield TensorGroup("mtp", "small", (dim,), 5, 5)
    yield _one("mtp", "eh_proj", dim, 2 * dim)
