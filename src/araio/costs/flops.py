"""Floating-point operations of a token, from a config alone: those with weights, and those of attention.

A multiply-add counts as two operations; norms, softmax and rotations, which no published figure counts, are
left out. Attention has two forms. Expanded, each head multiplies with keys and values of its own size:
`qk_head_dim + v_head_dim` multiply-adds for every position. Absorbed, it multiplies with the latent itself:
`2 kv_lora_rank + qk_rope_head_dim`, 3.4 times as much for DeepSeek-V3, and far fewer bytes; see
`traffic.py`. The MTP module is no part of any of these counts, nor of the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from araio.config import ModelConfig
from araio.costs.census import census
from araio.costs.checks import require_at_least
from araio.errors import CostError
from araio.json_reader import shown

__all__ = ["AttentionForm", "Flops", "decode_flops", "prefill_flops", "training_flops"]

AttentionForm: TypeAlias = Literal["absorbed", "expanded"]

OPERATIONS_PER_MULTIPLY_ADD = 2
# Backward multiplies twice as often as forward: once for the inputs' gradient, once for the weights'.
TRAINING_PASSES = 3


@dataclass(frozen=True)
class Flops:
    """Operations with weights, and operations of attention between positions."""

    weights: int
    attention: int

    @property
    def total(self) -> int:
        return self.weights + self.attention


def decode_flops(config: ModelConfig, context: int, form: AttentionForm = "absorbed") -> Flops:
    """One token of a decoding step: `2 N + 2 c L H d` with N the matrices it is multiplied with.

    d is `2 kv_lora_rank + qk_rope_head_dim` absorbed and `qk_head_dim + v_head_dim` expanded (DeepSeek-V2
    report, section 2.1 and appendix C). The expanded form is the one that published figures count; it keeps
    the expanded keys and values of earlier positions.

    context  positions attended to, the token's own included

    Raises CostError for a context of none, and for another form.
    """
    require_at_least(1, context=context)
    pair = _multiply_adds_per_pair(config, form)
    return _flops(_active_matrices(config), context * pair)


def prefill_flops(config: ModelConfig, tokens: int, cached: int = 0) -> Flops:
    """A prompt run in one piece, in the expanded form, up to the scores of its next token.

    Token t attends to `cached + t` positions. The latents of cached positions are expanded again, so a prompt
    run in pieces takes more; the output matrix is multiplied with the last token alone.

    tokens  that are run
    cached  that lie in the cache already, before them

    Raises CostError for a prompt of no token.
    """
    require_at_least(1, tokens=tokens)
    require_at_least(0, cached=cached)
    expansion = (
        config.num_hidden_layers
        * config.num_attention_heads
        * (config.qk_nope_head_dim + config.v_head_dim)
        * config.kv_lora_rank
    )
    head = config.vocab_size * config.hidden_size
    elsewhere = _active_matrices(config) - expansion - head
    pairs = tokens * cached + tokens * (tokens + 1) // 2
    return _flops(
        tokens * elsewhere + (cached + tokens) * expansion + head,
        pairs * _multiply_adds_per_pair(config, "expanded"),
    )


def training_flops(config: ModelConfig, length: int, causal: bool = True) -> Flops:
    """One token of a training sequence, forward and backward: three times the forward pass.

    The convention of "Insights into DeepSeek-V3" (arXiv 2505.09343), table 2, which has 250 GFLOP for
    DeepSeek-V3 and 155 for V2 at 4,096 tokens.

    causal  a token attends to half of the sequence on average, `(length + 1) / 2`; False counts all of it

    Raises CostError for a length of none.
    """
    require_at_least(1, length=length)
    pair = _multiply_adds_per_pair(config, "expanded")
    forward = OPERATIONS_PER_MULTIPLY_ADD * _active_matrices(config)
    # Twice the mean context is a whole number, and takes the place of the two operations.
    attention = pair * (length + 1) if causal else OPERATIONS_PER_MULTIPLY_ADD * pair * length
    return Flops(TRAINING_PASSES * forward, TRAINING_PASSES * attention)


def _flops(weights: int, attention: int) -> Flops:
    """From multiply-adds."""
    return Flops(OPERATIONS_PER_MULTIPLY_ADD * weights, OPERATIONS_PER_MULTIPLY_ADD * attention)


def _active_matrices(config: ModelConfig) -> int:
    """Numbers in the matrices that a token is multiplied with; norms and biases are no matrices."""
    matrices = (group for group in census(config) if len(group.shape) == 2 and group.part != "mtp")
    return sum(group.size * group.used for group in matrices)


def _multiply_adds_per_pair(config: ModelConfig, form: AttentionForm) -> int:
    """Of one query position with one cached position, in all heads and layers."""
    if form not in get_args(AttentionForm):
        raise CostError(f"form is {shown(form)}; expected {' or '.join(get_args(AttentionForm))}")
    size = (
        config.latent_dim + config.kv_lora_rank
        if form == "absorbed"
        else config.qk_head_dim + config.v_head_dim
    )
    return config.num_hidden_layers * config.num_attention_heads * size
