"""What a config adds up to: parameters, in total and per token, bytes of weights, bytes of cache.

Everything is in closed form, so a model with a trillion parameters is counted without a file of it. The
published "37B activated" of DeepSeek-V3 is every parameter a token is multiplied with; the input embedding,
of which a token reads one row, is left out. Counted with the whole table it is 37.6B; both are given here.
`census.py` lists the tensors, `storage.py` says how they are stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import prod

from araio.config import ModelConfig
from araio.costs.census import census
from araio.costs.storage import Storage

__all__ = ["Parameters", "Size", "cache_bytes_per_token", "count_parameters", "elements_by_type"]

CACHE_BITS = 16  # bfloat16


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


def count_parameters(config: ModelConfig, storage: Storage | None = None) -> Parameters:
    """Count every part of a model in closed form (DeepSeek-V2 report, section 2; V3 report, section 2).

    storage  how the weights are stored; as the config publishes them unless given
    """
    storage = storage or Storage.published(config)
    sizes = dict.fromkeys((part.name for part in fields(Parameters)), Size())
    for group in census(config):
        stored_bytes = storage.codec(group.weights, config).bytes(group.shape)
        sizes[group.part] += Size(
            group.size * group.count,
            group.size * group.used,
            stored_bytes * group.count,
            stored_bytes * group.used,
        )
    return Parameters(**sizes)


def elements_by_type(
    config: ModelConfig, storage: Storage | None = None, with_mtp_copies: bool = True
) -> dict[str, int]:
    """Numbers in a checkpoint by their safetensors type, scales included, as model hubs count them.

    with_mtp_copies  MTP modules repeat the embedding and head that they share, as DeepSeek's releases do
    """
    storage = storage or Storage.published(config)
    found: Counter[str] = Counter()
    for group in census(config):
        for part in storage.codec(group.weights, config).parts(group.shape):
            found[part.stored_as] += prod(part.shape) * group.count
    if with_mtp_copies:
        table = (config.vocab_size, config.hidden_size)
        for part in storage.codec("embeddings", config).parts(table):
            found[part.stored_as] += 2 * len(config.mtp_layers) * prod(part.shape)
    return {stored_as: count for stored_as, count in found.items() if count}


def cache_bytes_per_token(config: ModelConfig, bits: int = CACHE_BITS) -> int:
    """Bytes of latent cache for one token: `(kv_lora_rank + qk_rope_head_dim) * layers * bits / 8`.

    Published figures store bfloat16: 70,272 bytes for DeepSeek-V3.
    """
    return config.latent_dim * config.num_hidden_layers * bits // 8


def _sum(sizes: Iterable[Size]) -> Size:
    return sum(sizes, Size())
