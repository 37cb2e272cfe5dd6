"""What a training run takes: tokens a day, GPU hours, and how much of the hardware's peak it uses.

Money is hours times a rent. Operations per token come from `flops.training_flops`.
"""

from __future__ import annotations

from dataclasses import dataclass

from araio.costs.checks import require_at_least, require_positive

__all__ = ["TrainingSpeed", "gpu_hours_of_flops"]

SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86_400
HOURS_PER_DAY = 24


@dataclass(frozen=True)
class TrainingSpeed:
    """How fast a number of GPUs train.

    gpus          that work together
    tokens_per_s  of all of them
    """

    gpus: int
    tokens_per_s: float

    @classmethod
    def of_steps(cls, gpus: int, sequences: int, length: int, step_s: float) -> TrainingSpeed:
        """From the time of a step over a batch of sequences; raises CostError for numbers of none."""
        require_at_least(1, gpus=gpus, sequences=sequences, length=length)
        require_positive(step_s=step_s)
        return cls(gpus, sequences * length / step_s)

    @property
    def tokens_per_day(self) -> float:
        return self.tokens_per_s * SECONDS_PER_DAY

    def gpu_hours(self, tokens: float) -> float:
        """GPU hours for so many tokens."""
        return tokens / self.tokens_per_day * HOURS_PER_DAY * self.gpus

    def flops_per_gpu(self, flops_per_token: float) -> float:
        """Operations per second that each GPU does for the model."""
        return flops_per_token * self.tokens_per_s / self.gpus

    def utilization(self, flops_per_token: float, peak_flops: float) -> float:
        """Model FLOPs utilization: the share of a GPU's peak (PaLM, arXiv 2204.02311, appendix B)."""
        return self.flops_per_gpu(flops_per_token) / peak_flops


def gpu_hours_of_flops(flops: float, flops_per_gpu: float) -> float:
    """GPU hours for so many operations, at so many per second and GPU."""
    require_positive(flops_per_gpu=flops_per_gpu)
    return flops / flops_per_gpu / SECONDS_PER_HOUR
