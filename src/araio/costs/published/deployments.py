"""Published deployments of R1 beside what `plan.py` predicts for them, with nothing fitted to them.

Two kinds: vLLM on one machine of eight devices, and DeepSeek's own service, whose expert parallelism and
overlapping no term here describes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from araio.config import ModelConfig
from araio.costs.hardware import find_hardware
from araio.costs.plan import predict, site_of
from araio.costs.tiers import Load

__all__ = ["Deployment", "published_deployments"]

ML_ENERGY = "ML.ENERGY leaderboard, DeepSeek-R1-0528, FP8, GPQA"
DAY_6 = "DeepSeek, open-infra-index, day 6"
# An answer has 11,287 tokens on average, so a token attends to half of them and a prompt of some hundred.
GPQA_CONTEXT = 6000
MEASURED = {8: (433.24, 9.874), 128: (2999.0, 2.376)}

CONTEXT, GPUS, NODE = 4989, 144, 8
NODE_OUTPUT_PER_S, USER_PER_S = 14.8e3, 21.0
NODE_PROMPT_PER_S, HITS, PROMPT_GPUS = 73.7e3, 0.563, 32


@dataclass(frozen=True)
class Deployment:
    """One published speed or energy.

    predicted, published  tokens per second, or joules per output token
    """

    what: str
    unit: str
    predicted: float
    published: float
    source: str

    @property
    def ratio(self) -> float:
        """Published over predicted."""
        return self.published / self.predicted


def published_deployments(config_of: Callable[[str], ModelConfig]) -> tuple[Deployment, ...]:
    """Every comparison, the ratio being whatever it is."""
    config = config_of("deepseek-r1")
    rows = [row for batch in MEASURED for row in _of_vllm(config, batch)]
    return (*rows, *_of_deepseek(config))


def _of_vllm(config: ModelConfig, batch: int) -> tuple[Deployment, Deployment]:
    found = predict(config, site_of(find_hardware("8xb200-sxm")), Load(batch=batch, context=GPQA_CONTEXT))
    tokens_per_s, joules = MEASURED[batch]
    what = f"8 B200, {batch} sequences"
    return (
        Deployment(f"{what}, decoding", "tok/s", found.tokens_per_s, tokens_per_s, ML_ENERGY),
        Deployment(f"{what}, energy", "J", found.joules[1], joules, ML_ENERGY),
    )


def _of_deepseek(config: ModelConfig) -> tuple[Deployment, Deployment]:
    """A node's part of the groups of GPUs that work together."""
    nodes = GPUS // NODE
    batch = round(nodes * NODE_OUTPUT_PER_S / USER_PER_S)
    decode = predict(config, site_of(find_hardware(f"{GPUS}xh800-sxm")), Load(batch=batch, context=CONTEXT))
    prompts = predict(config, site_of(find_hardware(f"{PROMPT_GPUS}xh800-sxm")), Load(prompt=CONTEXT))
    assert prompts.prefill is not None
    computed = NODE_PROMPT_PER_S * (1 - HITS)
    of_node = prompts.prefill.tokens_per_s * NODE / PROMPT_GPUS
    return (
        Deployment(
            f"{GPUS} H800, {batch:,} sequences, decoding, a node",
            "tok/s",
            decode.tokens_per_s / nodes,
            NODE_OUTPUT_PER_S,
            DAY_6,
        ),
        Deployment(
            f"{PROMPT_GPUS} H800, prompts without cached tokens, a node", "tok/s", of_node, computed, DAY_6
        ),
    )
