"""What serving a model to many takes: nodes, rent and revenue of a day, experts per GPU, bounds on speed.

Enough for the figures that DeepSeek published of its own service (open-infra-index, day 6) and of its
hardware ("Insights into DeepSeek-V3", arXiv 2505.09343); a prediction for one machine is no matter of this
module.
"""

from __future__ import annotations

from dataclasses import dataclass

from araio.costs.checks import require_at_least, require_positive, require_rate, require_share
from araio.costs.prices import Prices

__all__ = ["ServiceDay", "expert_exchange_s", "experts_per_gpu", "speculation_ceiling"]

HOURS_PER_DAY = 24
SECONDS_PER_DAY = 86_400
DISPATCH_BYTES, COMBINE_BYTES = 1, 2  # FP8 to the experts, bfloat16 back
MICRO_BATCHES = 2  # that overlap: one computes while the other's tokens travel


@dataclass(frozen=True)
class ServiceDay:
    """A day of a service.

    nodes   in use, on average
    prompt  tokens of all prompts, cached ones included
    cached  of them, tokens found in a cache
    output  tokens generated
    """

    nodes: float
    gpus_per_node: int
    prompt: int
    cached: int
    output: int

    def rent(self, per_gpu_hour: float) -> float:
        """What the GPUs cost."""
        require_rate(per_gpu_hour=per_gpu_hour)
        return self.nodes * self.gpus_per_node * HOURS_PER_DAY * per_gpu_hour

    def revenue(self, prices: Prices) -> float:
        """What the tokens bring by a price list, if every one were sold."""
        return prices.of(self.prompt, self.cached, self.output)

    def margin(self, per_gpu_hour: float, prices: Prices) -> float:
        """Profit over rent."""
        return self.revenue(prices) / self.rent(per_gpu_hour) - 1

    def nodes_needed(self, prompt_per_s: float, output_per_s: float) -> float:
        """Nodes that such speeds take, each node being for prompts or for decoding."""
        require_positive(prompt_per_s=prompt_per_s, output_per_s=output_per_s)
        return (self.prompt / prompt_per_s + self.output / output_per_s) / SECONDS_PER_DAY


def experts_per_gpu(routed: int, redundant: int, gpus: int) -> float:
    """Experts of a layer on each GPU, copies of busy ones included (DeepSeek-V3 report, section 3.4)."""
    require_at_least(1, routed=routed, gpus=gpus)
    require_at_least(0, redundant=redundant)
    return (routed + redundant) / gpus


def expert_exchange_s(
    layers: int, hidden_size: int, experts_per_token: int, tokens: int, bytes_per_s: float
) -> float:
    """The least time of a decoding step that waits for nothing but tokens on their way to experts and back.

    `2 L (1 + 2 bytes) tokens K d / bandwidth` ("Insights into DeepSeek-V3", section 2.3): two micro-batches
    that overlap, activations in FP8 to each expert and in bfloat16 back.

    tokens  of a device in one micro-batch
    """
    require_at_least(
        1, layers=layers, hidden_size=hidden_size, experts_per_token=experts_per_token, tokens=tokens
    )
    require_positive(bytes_per_s=bytes_per_s)
    sent = (DISPATCH_BYTES + COMBINE_BYTES) * tokens * experts_per_token * hidden_size
    return MICRO_BATCHES * layers * sent / bytes_per_s


def speculation_ceiling(acceptance: float) -> float:
    """Tokens per step with one drafted token, of which a share is kept: `1 + p`, if drafting took no time."""
    require_share(acceptance=acceptance)
    return 1 + acceptance
