"""Energy where nothing was measured: a published fit, and what a service takes around its accelerators.

What these functions give is modelled and must never be shown as if it were measured; `meters/` measures.
EcoLogits' fit is of models up to 200B on H100s; of DeepSeek-R1 it gives 8 % less than was measured on B200s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from araio.costs.checks import require_at_least, require_positive, require_rate, require_share
from araio.errors import CostError

__all__ = ["EcoLogitsEnergy", "ecologits_energy", "joules_per_token", "service_joules"]

JOULES_PER_WH = 3600
_GPU_MEMORY_BYTES = 80e9
_MEMORY_OVERHEAD = 1.2
_SERVER_WATTS, _GPUS_PER_SERVER = 1200, 8  # a server without its GPUs


@dataclass(frozen=True)
class EcoLogitsEnergy:
    """Joules per output token by EcoLogits' fit.

    gpus           that the weights are spread over
    gpu_joules     of all of them
    server_joules  of the servers around them
    """

    gpus: int
    gpu_joules: float
    server_joules: float

    @property
    def total(self) -> float:
        return self.gpu_joules + self.server_joules


def ecologits_energy(total: float, active: float, bits: int = 16, batch: int = 64) -> EcoLogitsEnergy:
    """Energy of one output token by EcoLogits' fit to ML.ENERGY's measurements on H100s.

    Per GPU and token `1.16653e-6 exp(-0.0112059 B) P + 4.05293e-5` Wh, a step of
    `6.785e-4 P + 3.119e-4 B + 0.01947` s, P in billions of active parameters
    (https://ecologits.ai, methodology, "LLM inference"; the formulas are implemented anew here).

    total, active  parameters
    bits           of a stored number
    batch          B, sequences that are decoded together

    Raises CostError for a model or batch of none.
    """
    require_at_least(1, bits=bits, batch=batch)
    if not 0 < active <= total:
        raise CostError(f"active is {active:g} of {total:g} parameters; expected more than 0 and at most all")
    needed = _MEMORY_OVERHEAD * total * bits / 8 / _GPU_MEMORY_BYTES
    gpus = 2 ** max(0, math.ceil(math.log2(needed)))
    billions = active / 1e9
    gpu_wh = 1.16653e-6 * math.exp(-0.0112059 * batch) * billions + 4.05293e-5
    step_s = 6.785e-4 * billions + 3.119e-4 * batch + 0.01947
    return EcoLogitsEnergy(
        gpus, gpus * gpu_wh * JOULES_PER_WH, step_s * _SERVER_WATTS * gpus / _GPUS_PER_SERVER / batch
    )


def joules_per_token(watts: float, tokens_per_s: float) -> float:
    """Power over speed."""
    require_rate(watts=watts)
    require_positive(tokens_per_s=tokens_per_s)
    return watts / tokens_per_s


def service_joules(accelerator_joules: float, accelerator_share: float = 1.0) -> float:
    """Joules of a whole service, of which accelerators take a share.

    The share is 1 for a run on one's own machine. Google reports 0.58 for Gemini (arXiv 2508.15734): hosts,
    idle machines and the building take the rest, a factor of 1.72.
    """
    require_rate(accelerator_joules=accelerator_joules)
    require_share(accelerator_share=accelerator_share)
    require_positive(accelerator_share=accelerator_share)
    return accelerator_joules / accelerator_share
