"""`Receipts`: makes the `Receipt` of a finished request from what was counted for it.

Read `ledger.py` for who counted, `costs/receipt.py` for what the numbers mean.
"""

from __future__ import annotations

from araio.config import ModelConfig
from araio.costs.parameters import count_parameters
from araio.costs.rates import Rates
from araio.costs.receipt import Joules, Receipt
from araio.costs.tariff import Tariff
from araio.costs.work import Work
from araio.engine.job import EnergyShare, Job
from araio.meters.meter import Meter

__all__ = ["Receipts"]

MICRO = 1e-6


class Receipts:
    """Those of one model.

    name    of the model, as a receipt shows it
    meter   that the engine counts joules with
    tariff  what joules and tokens are worth
    approximation  that the model's answers are made with; None if they are exact
    """

    def __init__(
        self, name: str, config: ModelConfig, meter: Meter, tariff: Tariff, approximation: str | None = None
    ) -> None:
        counted = count_parameters(config)
        self._name, self._meter, self._tariff = name, meter, tariff
        self._approximation = approximation
        self._total = counted.model.total
        self._always_active = counted.model.active - counted.routed_experts.active
        self._rates, self._draft_rates = Rates.of_model(config), Rates.of_mtp(config)

    def receipt(self, job: Job, reasoning: int, generated: int, prefill_s: float, decode_s: float) -> Receipt:
        """Of a request that is done, after the step that ended it.

        reasoning  tokens of all that were generated
        prefill_s  seconds until the first token, those in line included
        """
        rates, drafts = self._rates, self._draft_rates
        work, of_drafts = job.work, job.draft_work
        return Receipt(
            model=self._name,
            approximation=self._approximation,
            mask=None if job.mask is None else job.mask.name,
            prompt_tokens=len(job.prompt),
            cached_tokens=job.cached_tokens,
            reasoning_tokens=reasoning,
            answer_tokens=generated - reasoning,
            draft_tokens=job.draft_tokens,
            accepted_draft_tokens=job.accepted_draft_tokens,
            parameters_total=self._total,
            parameters_active=self._active(work),
            flops=rates.flops(work) + drafts.flops(of_drafts),
            dense_flops=rates.dense_flops(work) + drafts.dense_flops(of_drafts),
            memory_bytes=work.memory_bytes + of_drafts.memory_bytes,
            weight_bytes=work.weights_read + of_drafts.weights_read,
            streamed=job.streamed,
            queue_s=job.queue_s,
            prefill_s=max(0.0, prefill_s - job.queue_s),
            decode_s=decode_s,
            joules=self._joules(job.energy),
            tariff=self._tariff,
        )

    def _active(self, work: Work) -> int:
        """Parameters that a token was multiplied with, on average over all that ran."""
        return self._always_active + round(self._rates.expert * work.expert_uses / work.tokens)

    def _joules(self, energy: EnergyShare) -> Joules:
        """Modelled, all of them, if a counter could be read no more before the request was done."""
        knows_idle = self._meter.idle_watts is not None
        return Joules(
            best=energy.joules * MICRO,
            low=energy.low * MICRO,
            high=energy.high * MICRO,
            idle=energy.idle * MICRO if knows_idle else None,
            method=self._meter.method,
        )
