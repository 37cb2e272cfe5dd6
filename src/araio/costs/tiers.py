"""`place`: what of a model lies in memory and what on disk under a budget, and the smallest budget that runs.

In memory there must be: the weights that every token needs with the whole embedding, the cache of all
sequences, the activations of a step, and of one layer the experts that a step touches, twice: one set is in
use while the next is read. What is left of the budget keeps whole experts. Read `roofline.py` for what it
costs when one is not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from araio.config import ModelConfig
from araio.costs.checks import require_at_least, require_rate
from araio.costs.parameters import Parameters, cache_bytes_per_token, count_parameters
from araio.costs.storage import Storage
from araio.costs.traffic import expected_experts
from araio.errors import CostError

__all__ = ["CHUNK", "Load", "Tiers", "place"]

CHUNK = 512
"""Tokens of a prompt in one step, the engine's default."""

ACTIVATION_BYTES = 4  # float32


@dataclass(frozen=True)
class Load:
    """What a model is asked for.

    batch    sequences that are decoded together
    context  positions that each of them attends to, its own token included; the cache has room for as many
    prompt   tokens of one prompt
    chunk    of them, tokens that run in one step

    Raises CostError for numbers that are not whole or below 1.
    """

    batch: int = 1
    context: int = 4096
    prompt: int = 512
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        require_at_least(1, **vars(self))

    @property
    def step_tokens(self) -> int:
        """The most that a step runs."""
        return max(self.batch, min(self.prompt, self.chunk))


@dataclass(frozen=True)
class Tiers:
    """Bytes of a model by where they lie.

    dense           weights that do not depend on the routes, the embedding included
    experts         routed experts in memory
    on_disk         the other routed experts
    cache           latents of all sequences
    buffers         activations of a step, and experts on their way where some are on disk
    smallest        budget that runs
    step            budget that keeps every expert that one decoding step touches as well
    whole           budget that keeps everything
    """

    dense: int
    experts: int
    on_disk: int
    cache: int
    buffers: int
    smallest: int
    step: int
    whole: int

    @property
    def in_memory(self) -> int:
        """Bytes of the budget that are used."""
        return self.dense + self.experts + self.cache + self.buffers

    @property
    def resident_share(self) -> float:
        """Of the routed experts that lie in memory; the share of hits if routes favour none."""
        routed = self.experts + self.on_disk
        return self.experts / routed if routed else 1.0


def place(
    config: ModelConfig, load: Load, storage: Storage | None = None, budget: float | None = None
) -> Tiers:
    """Lay a model out under a budget of memory in bytes; None has room for everything.

    Raises CostError, with the smallest budget that runs, for less.
    """
    counted = count_parameters(config, storage)
    dense = counted.model.bytes - counted.routed_experts.bytes
    cache = load.batch * load.context * cache_bytes_per_token(config)
    activations = _activation_bytes(config, load)
    needed = dense + cache + activations
    whole = needed + counted.routed_experts.bytes
    on_the_way = 2 * _touched_bytes(config, counted, load.batch, layers=1)
    smallest = min(whole, needed + on_the_way)
    step = min(whole, smallest + _touched_bytes(config, counted, load.batch, len(config.moe_layers)))
    if budget is not None:
        require_rate(budget=budget)
    if budget is None or budget >= whole:
        return Tiers(dense, counted.routed_experts.bytes, 0, cache, activations, smallest, step, whole)
    if budget < smallest:
        raise CostError(
            f"{_shown(budget)} of memory are too few: {_shown(smallest)} are the least that runs "
            f"({_shown(dense)} of weights that every token needs, {_shown(cache)} of cache, "
            f"{_shown(smallest - dense - cache)} of buffers); store the model in fewer bits, or ask "
            "for a shorter context or a smaller batch"
        )
    one = counted.routed_experts.bytes // (len(config.moe_layers) * config.n_routed_experts)
    experts = int(budget - smallest) // one * one
    buffers = activations + on_the_way
    return Tiers(
        dense, experts, counted.routed_experts.bytes - experts, cache, buffers, smallest, step, whole
    )


def _shown(size: float) -> str:
    """Bytes in GB, or in MB below one GB; rounded up, so that a budget that is named is one that runs."""
    unit_bytes, unit = (1e9, "GB") if size >= 1e9 else (1e6, "MB")
    return f"{math.ceil(size / unit_bytes * 10) / 10:.1f} {unit}"


def _touched_bytes(config: ModelConfig, counted: Parameters, tokens: int, layers: int) -> int:
    """Of the experts that so many tokens touch in some layers, under uniform routing."""
    routing = len(config.moe_layers)
    if not routing:
        return 0
    touched = expected_experts(config.n_routed_experts, config.num_experts_per_tok, tokens)
    return round(counted.routed_experts.bytes * layers / routing * touched / config.n_routed_experts)


def _activation_bytes(config: ModelConfig, load: Load) -> int:
    """Of one step: states in and out of a layer, queries and values, the widest feed-forward part, scores."""
    heads = config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
    routed = (config.num_experts_per_tok + config.n_shared_experts) * config.moe_intermediate_size
    widest = 2 * max(config.intermediate_size, routed)
    numbers = load.step_tokens * (3 * config.hidden_size + heads + config.latent_dim + widest)
    return ACTIVATION_BYTES * (numbers + load.batch * config.vocab_size)
