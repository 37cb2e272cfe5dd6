"""`Budget`: what each part of a running model may take of the memory it is given, and whether that is enough.

The parts: the process as it is before weights are read; the weights that every token needs; the latent cache;
the activations of a step; and routed experts, all of them or as many as there is room for. Of these, two
layers' worth are staging: one layer computes while the next one's are read. `araio plan` counts the same from
a config alone (`costs/tiers.py`). Read `load.py` for who asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from araio.config import ModelConfig
from araio.errors import BudgetError
from araio.kernels.ops import PAGE

__all__ = ["Budget", "Needs", "check_room", "split"]

# What a process takes on top while it runs: receipts, templates, stacks of threads, the allocator's own.
LATER = 48 << 20

# The latent cache takes one part in so many of what is left, never less than so many tokens.
CACHE_SHARE = 8
LEAST_CACHE_TOKENS = 2048

# Tokens of a prompt that run together: so many where every expert is in memory. Where experts are read again
# for each chunk, more, as long as their activations take no more than a part in so many of what is left.
CHUNK = 512
STREAMED_CHUNKS = (2048, 1024, 512, 256, 128, 64)
ACTIVATIONS_SHARE = 10


@dataclass(frozen=True)
class Needs:
    """What a model needs, in bytes.

    dense   weights that do not depend on the routes, as they are held
    token   of the latent cache, in all layers
    record  one routed expert as it is read from disk and held
    routed  all routed experts, as a model that has them all holds them
    layers  that have routed experts
    policy  what it takes to know which of them are worth keeping
    """

    dense: int
    token: int
    record: int
    routed: int
    layers: int
    policy: int = 0


@dataclass(frozen=True)
class Budget:
    """Bytes, but for `slots`, `cache_tokens` and `chunk`.

    ram          that was given
    process      without weights, and what it takes on top while it runs
    dense        weights that every token needs
    cache        latents of `cache_tokens` tokens, those of all sequences together
    activations  of a step of `chunk` tokens
    staging      experts on their way; 0 where all are in memory
    experts      experts that stay
    slots        places for experts, staging included; None where all experts are in memory
    smallest     the least `ram` that works
    whole        the least `ram` that keeps every expert in memory
    """

    ram: int
    process: int
    dense: int
    cache: int
    activations: int
    staging: int
    experts: int
    slots: int | None
    cache_tokens: int
    chunk: int
    smallest: int
    whole: int

    @property
    def used(self) -> int:
        """The parts together; at most `ram`."""
        return self.process + self.dense + self.cache + self.activations + self.staging + self.experts


def split(
    config: ModelConfig, needs: Needs, ram: int, process: int, cache_tokens: int | None = None
) -> Budget:
    """Divide memory among the parts of a model.

    ram           bytes that the whole process may take
    process       bytes that it takes already
    cache_tokens  tokens of the latent cache; None takes a share of what is left

    Raises:
        BudgetError: too little, with the smallest budget that works.
    """
    context, process = config.max_position_embeddings, process + LATER + needs.policy
    least_tokens = _pages(min(LEAST_CACHE_TOKENS, context) if cache_tokens is None else cache_tokens)
    fixed = process + needs.dense + least_tokens * needs.token
    count = needs.layers * config.n_routed_experts
    staging = min(2 * config.num_experts_per_tok, count) * needs.record
    smallest = whole = fixed + _activations(config, CHUNK) + needs.routed
    if needs.layers:
        smallest = min(whole, fixed + _activations(config, STREAMED_CHUNKS[-1]) + staging)
    if ram < smallest:
        raise BudgetError(_too_little(ram, smallest, process, needs, least_tokens))
    chunk = CHUNK if ram >= whole else _chunk(config, ram - fixed - staging)
    activations = _activations(config, chunk)
    left = ram - fixed - activations
    if ram >= whole:
        staging, experts, slots = 0, needs.routed, None
        more = left - experts
    else:
        more = (left - staging) // CACHE_SHARE
    tokens = least_tokens
    if cache_tokens is None:
        # Whole pages that there is room for; a context may end within its last one.
        tokens += min(more // needs.token // PAGE * PAGE, _pages(context) - least_tokens)
    if ram < whole:
        room = left - (tokens - least_tokens) * needs.token
        slots = min(room // needs.record, count)
        experts = slots * needs.record - staging
    return Budget(
        ram=ram,
        process=process,
        dense=needs.dense,
        cache=tokens * needs.token,
        activations=activations,
        staging=staging,
        experts=experts,
        slots=slots,
        cache_tokens=tokens,
        chunk=chunk,
        smallest=smallest,
        whole=whole,
    )


def check_room(
    config: ModelConfig, needs: Needs, budget: Budget, pinned: int, cache_tokens: int | None = None
) -> None:
    """Refuse a budget that cannot hold so many experts beside those of the two layers at work.

    cache_tokens  that were asked for, as in `split`

    Raises:
        BudgetError: too little, with a budget that is enough.
    """
    working, slots = 2 * config.num_experts_per_tok, budget.slots
    if not pinned or slots is None or pinned + working <= slots:
        return
    room, enough = max(0, slots - working), budget.ram
    process = budget.process - LATER - needs.policy
    while slots is not None and slots < pinned + working:
        # From one that a message can name to the next: with more memory, larger chunks may leave less room.
        parts, unit = (10, 2**30) if enough >= 2**30 else (1, 2**20)
        enough = -(-(enough * parts // unit + 1) * unit // parts)
        slots = split(config, needs, enough, process, cache_tokens).slots
    raise BudgetError(
        f"{pinned} experts are to stay in memory, and {_shown(budget.ram, math.floor)} have room for "
        f"{room} beside those of the two layers at work; {_shown(enough, round)} are enough, or keep fewer"
    )


def _pages(tokens: int) -> int:
    """Tokens of the whole pages that are needed for so many."""
    return -(-tokens // PAGE) * PAGE


def _chunk(config: ModelConfig, room: int) -> int:
    for chunk in STREAMED_CHUNKS:
        if _activations(config, chunk) <= room / ACTIVATIONS_SHARE:
            return chunk
    return STREAMED_CHUNKS[-1]


def _activations(config: ModelConfig, tokens: int) -> int:
    """Of a step, in float32: the states around the parts of a layer, queries and values, the answers of all
    experts before they are added, the inside of the widest feed-forward part twice, and scores.
    """
    heads = config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
    routed = config.num_experts_per_tok * (config.hidden_size + 2 * config.moe_intermediate_size)
    dense = 2 * max(config.intermediate_size, config.n_shared_experts * config.moe_intermediate_size)
    numbers = 6 * config.hidden_size + 2 * heads + max(routed, dense)
    return 4 * (tokens * numbers + 2 * config.vocab_size)


def _too_little(ram: int, smallest: int, process: int, needs: Needs, tokens: int) -> str:
    cache, dense = tokens * needs.token, needs.dense
    rest = smallest - process - dense - cache
    return (
        f"{_shown(ram, math.floor)} of memory are too few: {_shown(smallest)} are the least that works "
        f"({_shown(dense)} of weights that every token needs, {_shown(cache)} for {tokens:,} tokens of "
        f"cache, {_shown(process)} of the program itself, {_shown(rest)} for a step and the experts of two "
        "layers); store the model in fewer bits with `araio convert`, or ask for fewer tokens of cache"
    )


def _shown(size: int, rounded: Callable[[float], int] = math.ceil) -> str:
    """Rounded up, so that a budget that is named is one that works."""
    unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
    return f"{rounded(size / unit * 10) / 10:.1f} {name}"
