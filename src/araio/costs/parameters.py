"""What a config adds up to: parameters, in total and per token, bytes of weights, bytes of cache.

Everything is in closed form, so a model with a trillion parameters is counted without a file of it. The
published "37B activated" of DeepSeek-V3 is every parameter a token is multiplied with; the input embedding,
of which a token reads one row, is left out. Counted with the whole table it is 37.6B; both are given here.
`formats/layout.py` lists the same tensors one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from araio.config import ModelConfig

__all__ = ["Parameters", "Size", "cache_bytes_per_token", "count_parameters"]

BF16_BYTES, F32_BYTES = 2, 4
# How `torch_dtype` of a config names what its unquantised weights are stored as; bfloat16 if it does not say.
BYTES_OF_DTYPE = {"float32": F32_BYTES, "float16": BF16_BYTES, "bfloat16": BF16_BYTES}


@dataclass(frozen=True)
class Size:
    """Parameters and stored bytes of a part, in total and those that one token uses."""

    total: int = 0
    active: int = 0
    bytes: int = 0
    active_bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            self.total + other.total,
            self.active + other.active,
            self.bytes + other.bytes,
            self.active_bytes + other.active_bytes,
        )

    def times(self, count: int, active: int | None = None) -> Size:
        """`count` such parts, of which a token uses `active` (all unless given)."""
        used = count if active is None else active
        return Size(self.total * count, self.active * used, self.bytes * count, self.active_bytes * used)


@dataclass(frozen=True)
class Parameters:
    """The main model by part, and its MTP modules apart: they are not needed to run the model.

    A head tied to the embedding has size zero, and then the table counts as active.
    """

    embedding: Size
    attention: Size
    dense_ffn: Size
    routed_experts: Size
    shared_experts: Size
    gates: Size
    gate_bias: Size
    norms: Size
    head: Size
    mtp: Size

    @property
    def parts(self) -> dict[str, Size]:
        """The main model's parts by name, in the order of the fields."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "mtp"}

    @property
    def model(self) -> Size:
        """The main model; `active` leaves the embedding table out, as published figures do."""
        return _sum(self.parts.values())

    @property
    def active_with_embedding(self) -> int:
        """Active parameters when the whole embedding table is counted too."""
        return self.model.active + self.embedding.total - self.embedding.active


def count_parameters(config: ModelConfig) -> Parameters:
    """Count every part of a model in closed form (DeepSeek-V2 report, section 2; V3 report, section 2)."""
    count = _Counter(config)
    layers, routing = config.num_hidden_layers, len(config.moe_layers)
    table = count.plain(config.vocab_size * config.hidden_size)
    lookup = Size(total=table.total, bytes=table.bytes)
    tied = config.tie_word_embeddings
    return Parameters(
        embedding=table if tied else lookup,
        attention=count.attention().times(layers),
        dense_ffn=count.ffn(config.intermediate_size).times(layers - routing),
        routed_experts=count.routed_experts().times(routing),
        shared_experts=count.shared_experts().times(routing),
        gates=count.gate().times(routing),
        gate_bias=count.gate_bias().times(routing),
        norms=count.plain(config.hidden_size).times(2 * layers + 1),
        head=Size() if tied else table,
        mtp=_sum(count.mtp(layer) for layer in config.mtp_layers),
    )


def cache_bytes_per_token(config: ModelConfig, bytes_per_number: int = BF16_BYTES) -> int:
    """Bytes of latent cache for one token: `(kv_lora_rank + qk_rope_head_dim) * layers * bytes`.

    Published figures store bfloat16: 70,272 bytes for DeepSeek-V3.
    """
    return config.latent_dim * config.num_hidden_layers * bytes_per_number


def _sum(sizes: Iterable[Size]) -> Size:
    return sum(sizes, Size())


class _Counter:
    """Sizes of the pieces of one layer; everything counts as active until `times` says otherwise."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        stated = config.source.get("torch_dtype") or config.source.get("dtype")
        self.plain_bytes = BYTES_OF_DTYPE.get(stated if isinstance(stated, str) else "", BF16_BYTES)

    def plain(self, count: int) -> Size:
        """Parameters that are never quantised."""
        return Size(count, count, count * self.plain_bytes, count * self.plain_bytes)

    def matrix(self, rows: int, columns: int) -> Size:
        """A projection: FP8 with one float32 scale per block if the checkpoint is quantised."""
        if self.config.quantization_config is None:
            return self.plain(rows * columns)
        block_rows, block_columns = self.config.quantization_config.weight_block_size
        scales = -(-rows // block_rows) * -(-columns // block_columns)
        stored_bytes = rows * columns + scales * F32_BYTES
        return Size(rows * columns, rows * columns, stored_bytes, stored_bytes)

    def attention(self) -> Size:
        """One layer's latent attention with the norms inside it."""
        config = self.config
        dim, heads, latent = config.hidden_size, config.num_attention_heads, config.kv_lora_rank
        if config.q_lora_rank is None:
            queries = self.matrix(heads * config.qk_head_dim, dim)
        else:
            queries = (
                self.matrix(config.q_lora_rank, dim)
                + self.plain(config.q_lora_rank)
                + self.matrix(heads * config.qk_head_dim, config.q_lora_rank)
            )
        return (
            queries
            + self.matrix(config.latent_dim, dim)
            + self.plain(latent)
            + self.matrix(heads * (config.qk_nope_head_dim + config.v_head_dim), latent)
            + self.matrix(dim, heads * config.v_head_dim)
        )

    def ffn(self, width: int) -> Size:
        """A gated feed-forward network: gate, up and down."""
        dim = self.config.hidden_size
        return self.matrix(width, dim).times(2) + self.matrix(dim, width)

    def routed_experts(self) -> Size:
        """One layer's routed experts, of which a token uses `num_experts_per_tok`."""
        expert = self.ffn(self.config.moe_intermediate_size)
        return expert.times(self.config.n_routed_experts, active=self.config.num_experts_per_tok)

    def shared_experts(self) -> Size:
        """One layer's shared experts, stored as one wide network."""
        width = self.config.n_shared_experts * self.config.moe_intermediate_size
        return self.ffn(width) if width else Size()

    def gate(self) -> Size:
        """One layer's router."""
        return self.plain(self.config.n_routed_experts * self.config.hidden_size)

    def gate_bias(self) -> Size:
        """One layer's balancing bias, which stays float32 in every checkpoint."""
        count = self.config.n_routed_experts if self.config.has_router_bias else 0
        return Size(count, count, count * F32_BYTES, count * F32_BYTES)

    def mtp(self, layer: int) -> Size:
        """One MTP module without the embedding and head that it shares (V3 report, section 2.2)."""
        dim = self.config.hidden_size
        block = self.attention() + self.plain(2 * dim)
        if self.config.is_moe(layer):
            block += self.routed_experts() + self.shared_experts() + self.gate() + self.gate_bias()
        else:
            block += self.ffn(self.config.intermediate_size)
        return block + self.plain(3 * dim) + self.plain(dim * 2 * dim)  # three norms, eh_proj
