"""The shapes that speed is measured on: real layers of published models, in a size that a laptop holds.

`r1_small` alone has layers that nobody published, for engines that keep every weight in float32. A shape is a
config without weights. `checkpoints.py` has the tiny ones that tests run on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from araio.config import ModelConfig
from araio.weights.locate import PRESETS

__all__ = ["SHAPES", "growing", "lite", "r1_slice", "r1_small"]

R1_SLICE_VOCABULARY = (
    4096  # R1's own 129,280 rows would weigh as much as all that is measured in three layers
)


def lite() -> ModelConfig:
    """DeepSeek-V2-Lite as published: 27 layers, 6 of 64 experts a token; 15.7B parameters, 2.5B active."""
    return ModelConfig.from_file(PRESETS["deepseek-v2-lite"])


def r1_slice() -> ModelConfig:
    """Three layers of DeepSeek-R1, exactly as large as there: one dense, two with 8 of 256 experts a token.

    Its vocabulary is cut to 4096 and its prediction module left out; 23.7B parameters, 1.8B active.
    """
    return replace(
        ModelConfig.from_file(PRESETS["deepseek-r1"]),
        num_hidden_layers=3,
        first_k_dense_replace=1,
        vocab_size=R1_SLICE_VOCABULARY,
        num_nextn_predict_layers=0,
    )


def r1_small() -> ModelConfig:
    """DeepSeek-R1's architecture in small: 7 layers, 8 of 64 experts a token; 358M parameters, 86M active.

    Heads, latents, groups and YaRN are as in R1, widths and numbers of layers, heads and experts are not.
    """
    return replace(
        ModelConfig.from_file(PRESETS["deepseek-r1"]),
        hidden_size=1024,
        intermediate_size=2816,
        moe_intermediate_size=256,
        num_hidden_layers=7,
        first_k_dense_replace=1,
        num_attention_heads=8,
        q_lora_rank=384,
        n_routed_experts=64,
        vocab_size=8192,
        num_nextn_predict_layers=0,
        quantization_config=None,
    )


def growing(experts: int, chosen: int = 8) -> ModelConfig:
    """Experts as wide as DeepSeek-R1's, any number of them in each of 2 layers; a token chooses `chosen`.

    With 8 experts it is dense and has 0.3B parameters. With 256 it has 6.5B, and as many active as before; of
    its twin that chooses all 256 they are all active.
    """
    return replace(
        ModelConfig.from_file(PRESETS["deepseek-r1"]),
        hidden_size=2048,
        intermediate_size=4096,
        num_hidden_layers=3,
        first_k_dense_replace=1,
        num_attention_heads=16,
        q_lora_rank=512,
        n_routed_experts=experts,
        num_experts_per_tok=chosen,
        n_group=1,
        topk_group=1,
        vocab_size=8192,
        num_nextn_predict_layers=0,
        quantization_config=None,
    )


SHAPES: dict[str, Callable[[], ModelConfig]] = {"lite": lite, "r1-slice": r1_slice}
"""Each shape by the name that benchmarks give it."""
