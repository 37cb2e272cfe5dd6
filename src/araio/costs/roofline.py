"""`decode_timing` and `prefill_timing`: the time of a step on a machine, part by part.

A part reads bytes and computes; it takes the slower of both where only peaks are known, and what the
machine's own kernels took where they were measured (`speeds.py`). Read `timing.py` for how parts add up.

Sampling, text and the prediction module are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from araio.config import ModelConfig
from araio.costs.census import TensorGroup, census
from araio.costs.checks import require_share
from araio.costs.flops import OPERATIONS_PER_MULTIPLY_ADD, decode_flops, prefill_flops
from araio.costs.parameters import cache_bytes_per_token, count_parameters
from araio.costs.speeds import Speeds
from araio.costs.storage import Storage
from araio.costs.tiers import Load
from araio.costs.timing import Part, Timing
from araio.costs.traffic import embedding_row_bytes, expected_experts
from araio.errors import CostError

__all__ = ["Experts", "decode_timing", "prefill_timing"]

_PART_NAMES = {
    "attention": "attention",
    "dense_ffn": "dense layers",
    "shared_experts": "shared experts",
    "gates": "routers",
    "gate_bias": "routers",
    "norms": "norms",
    "embedding": "output matrix",  # where it is the output matrix as well
    "head": "output matrix",
}


@dataclass(frozen=True)
class Experts:
    """Where the experts that a step touches come from.

    hit_rate          share of them that lies in memory
    disk_bytes_per_s  of the disk that the others lie on

    Raises CostError for a share that is none, and for misses without a disk.
    """

    hit_rate: float = 1.0
    disk_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        require_share(hit_rate=self.hit_rate)
        if self.hit_rate < 1 and not self.disk_bytes_per_s:
            raise CostError(
                f"hit_rate is {self.hit_rate:g}, so some experts come from disk; say how fast it is read"
            )


def decode_timing(
    config: ModelConfig,
    rates: Speeds,
    load: Load,
    storage: Storage | None = None,
    experts: Experts = Experts(),
) -> Timing:
    """One step in which every sequence of the batch is given a token, in the absorbed form."""
    step = _Step(config, rates, storage or Storage.published(config), experts, load.batch)
    attention = decode_flops(config, load.context).attention
    parts = [
        step.embedding(),
        *step.matrices(),
        step.absorption(load.batch),
        step.head(load.batch),
        step.positions(load.batch * load.context, load.batch * attention),
    ]
    return Timing(load.batch, _merged(parts), step.fixed_s(sequences=load.batch))


def prefill_timing(
    config: ModelConfig,
    rates: Speeds,
    load: Load,
    storage: Storage | None = None,
    experts: Experts = Experts(),
) -> Timing:
    """One prompt up to the scores of its next token, in the expanded form, chunk after chunk.

    Every chunk reads the experts that it touches again, and expands the latents of all chunks before it.
    """
    storage = storage or Storage.published(config)
    parts: list[Part] = []
    fixed_s = 0.0
    for cached in range(0, load.prompt, load.chunk):
        tokens = min(load.chunk, load.prompt - cached)
        step = _Step(config, rates, storage, experts, tokens)
        parts += [step.embedding(), *step.matrices(), step.expanded_attention(cached)]
        fixed_s += step.fixed_s(sequences=1)
    parts.append(step.head(1))
    return Timing(load.prompt, _merged(parts), fixed_s)


class _Step:
    """The parts of one step of `tokens` tokens."""

    def __init__(
        self, config: ModelConfig, rates: Speeds, storage: Storage, experts: Experts, tokens: int
    ) -> None:
        self._config, self._rates, self._storage = config, rates, storage
        self._experts, self._tokens = experts, tokens
        counted = count_parameters(config, storage)
        touched = counted.model.bytes - counted.embedding.bytes
        self._streamed_share = 1 - min(1.0, rates.cache_bytes / touched)
        heads = config.num_attention_heads
        self._kv_b = heads * (config.qk_nope_head_dim + config.v_head_dim), config.kv_lora_rank

    def embedding(self) -> Part:
        """A row for each token."""
        read_bytes = self._tokens * embedding_row_bytes(self._config, self._storage)
        read_s = self._rates.read_s(read_bytes)
        return Part("embedding", read_bytes, 0, read_s, 0.0, read_s)

    def matrices(self) -> Iterator[Part]:
        """Everything that all tokens of the step share, but the output matrix and `kv_b_proj`."""
        is_kv_b_left_out = False
        for group in census(self._config):
            if group.part in ("mtp", "head", "embedding") or not group.count:
                continue
            if group.part == "attention" and group.shape == self._kv_b and not is_kv_b_left_out:
                is_kv_b_left_out = True
            elif group.part == "routed_experts":
                yield from self._routed(group)
            else:
                yield self._dense(_PART_NAMES[group.part], group, group.used, self._tokens)

    def head(self, tokens: int) -> Part:
        """The output matrix for so many tokens."""
        part = "embedding" if self._config.tie_word_embeddings else "head"
        group = next(group for group in census(self._config) if group.part == part)
        return self._dense(_PART_NAMES[part], group, 1, tokens)

    def absorption(self, sequences: int) -> Part:
        """`kv_b_proj` of a decoding step: read once a layer; each sequence takes the time of one alone."""
        codec = self._storage.codec("dense", self._config)
        layers = self._config.num_hidden_layers
        read_bytes = self._streamed_share * layers * codec.bytes(self._kv_b)
        operations = self._kv_b_operations() * sequences
        read_s, compute_s = self._rates.read_s(read_bytes), 0.0
        if self._rates.knows_compute:
            product = self._rates.product(codec.name)
            compute_s = operations / (product.absorbed or product.cached.at(1))
            if product.streamed is not None:
                # As measured: it goes head by head, and waits for memory before it computes.
                seconds = read_s + compute_s
                return Part("attention", read_bytes, operations, read_s, compute_s, seconds)
        return Part("attention", read_bytes, operations, read_s, compute_s, max(read_s, compute_s))

    def positions(self, positions: int, operations: float) -> Part:
        """Attention of decoded tokens to cached positions."""
        heads, layers = self._config.num_attention_heads, self._config.num_hidden_layers
        read_bytes = positions * cache_bytes_per_token(self._config)
        read_s, compute_s = self._rates.read_s(read_bytes), 0.0
        if (attention := self._rates.attention) is not None:
            compute_s = operations / attention.decode.at(heads)
            compute_s += positions * heads * layers * attention.decode_score_s
        return Part("cache", read_bytes, operations, read_s, compute_s, max(read_s, compute_s))

    def expanded_attention(self, cached: int) -> Part:
        """Attention of a piece of a prompt, `cached` positions behind its beginning."""
        config, tokens = self._config, self._tokens
        codec = self._storage.codec("dense", config)
        positions = cached + tokens
        read_bytes = positions * cache_bytes_per_token(config)
        read_bytes += config.num_hidden_layers * codec.bytes(self._kv_b)
        operations = prefill_flops(config, tokens, cached).attention
        operations += positions * self._kv_b_operations()
        read_s, compute_s = self._rates.read_s(read_bytes), 0.0
        if (attention := self._rates.attention) is not None:
            pairs = tokens * cached + tokens * (tokens + 1) // 2
            scores = config.num_hidden_layers * config.num_attention_heads * pairs
            compute_s = operations / attention.prompt + scores * attention.prompt_score_s
        return Part("cache", read_bytes, operations, read_s, compute_s, max(read_s, compute_s))

    def fixed_s(self, sequences: int) -> float:
        """Seconds that no size explains."""
        fixed, layers, routing = (
            self._rates.fixed,
            self._config.num_hidden_layers,
            len(self._config.moe_layers),
        )
        return (
            fixed.step
            + (layers - routing) * fixed.dense_layer
            + routing * fixed.moe_layer
            + layers * (sequences - 1) * fixed.sequence
        )

    def _kv_b_operations(self) -> int:
        """Of one token in all layers."""
        rows, columns = self._kv_b
        return OPERATIONS_PER_MULTIPLY_ADD * self._config.num_hidden_layers * rows * columns

    def _dense(self, name: str, group: TensorGroup, used: float, tokens: float) -> Part:
        codec, streamed_share = self._storage.codec(group.weights, self._config), self._streamed_share
        read_bytes = streamed_share * used * codec.bytes(group.shape)
        read_s = self._rates.read_s(read_bytes)
        # A norm or a bias makes no product, and hardly any bytes.
        operations = OPERATIONS_PER_MULTIPLY_ADD * group.size * used * tokens if len(group.shape) == 2 else 0
        if not operations or not self._rates.knows_compute:
            return Part(name, read_bytes, operations, read_s, 0.0, read_s)
        product = self._rates.product(codec.name)
        rows, columns = group.shape
        edges_s = used * product.edge_s(rows, columns, tokens)
        compute_s = operations / product.cached.at(tokens) + edges_s
        if product.streamed is None:
            return Part(name, read_bytes, operations, read_s, compute_s, max(read_s, compute_s))
        streamed_s = operations / product.streamed.at(tokens) + edges_s
        seconds = (1 - streamed_share) * compute_s + streamed_share * streamed_s
        return Part(name, read_bytes, operations, read_s, compute_s, seconds)

    def _routed(self, group: TensorGroup) -> Iterator[Part]:
        """The experts that the step touches, each shared by the tokens that chose it."""
        routed, chosen = self._config.n_routed_experts, self._config.num_experts_per_tok
        touched = expected_experts(routed, chosen, self._tokens)
        tokens = self._tokens * chosen / touched
        used = group.count * touched / routed
        hits = self._experts.hit_rate
        yield self._dense("experts in memory", group, hits * used, tokens)
        if hits < 1 and (disk := self._experts.disk_bytes_per_s):
            missed = self._dense("experts from disk", group, (1 - hits) * used, tokens)
            read_bytes = (
                (1 - hits) * used * self._storage.codec(group.weights, self._config).bytes(group.shape)
            )
            read_s = read_bytes / disk
            seconds = max(read_s, missed.compute_s)
            yield Part(
                missed.name, read_bytes, missed.operations, read_s, missed.compute_s, seconds, is_disk=True
            )


def _merged(parts: Iterable[Part]) -> tuple[Part, ...]:
    """One part of each name."""
    merged: dict[str, Part] = {}
    for part in parts:
        merged[part.name] = merged[part.name] + part if part.name in merged else part
    return tuple(merged.values())
