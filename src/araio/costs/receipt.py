"""`Receipt`: what one answer took: tokens, parameters, operations, bytes, seconds, joules, grams, money.

Counts are exact and come from the engine (`engine/receipts.py`); joules say how they came about; grams and
money follow from stated rates (`tariff.py`). It holds numbers only, never text of a prompt. Read
`receipt_text.py` for how it is shown, `receipt_log.py` for where it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from araio.costs.tariff import Tariff
from araio.costs.work import StreamedWork

__all__ = ["MODELLED", "Joules", "Receipt"]

MODELLED = "model:"
"""How the method begins wherever nothing was measured."""


@dataclass(frozen=True)
class Joules:
    """Energy with how sure it is.

    best       the figure itself, which lies between `low` and `high`
    idle       the part that the machine would have drawn doing nothing; None where nobody measured it
    method     `rapl`, `nvml`, `rapl+nvml`, or `model:NAME` where nothing was measured
    """

    best: float
    low: float
    high: float
    idle: float | None
    method: str

    @property
    def is_modelled(self) -> bool:
        """Whether nothing was measured."""
        return self.method.startswith(MODELLED)

    def plus(self, other: Joules) -> Joules:
        """Both together, which were had by the same method."""
        assert self.method == other.method
        known = self.idle is not None and other.idle is not None
        return Joules(
            self.best + other.best,
            self.low + other.low,
            self.high + other.high,
            (self.idle or 0.0) + (other.idle or 0.0) if known else None,
            self.method,
        )

    def to_json(self) -> dict[str, Any]:
        """The keys that stand beside each other wherever joules are written down."""
        return {
            "joules": self.best,
            "joules_low": self.low,
            "joules_high": self.high,
            "joules_method": self.method,
            "idle_joules": self.idle,
        }


@dataclass(frozen=True)
class Receipt:
    """One answer's.

    model                  as it was named
    approximation          that the answer was made with, by its name; None if there was none
    mask                   name of the profile whose experts alone made it; None if all could be chosen
    cached_tokens          of the prompt, found in the cache
    reasoning_tokens       of what was generated; `answer_tokens` are the others
    draft_tokens           that were checked; `accepted_draft_tokens` were right
    parameters_active      that a token was multiplied with, counted from the experts that it was given to
    flops                  that were run, those of wrong drafts included
    dense_flops            of a model of the same size without experts to choose from
    memory_bytes           of weights and cache that were read, this request's share of each step
    weight_bytes           of those, the weights
    streamed               what was read from disk; None where all weights are in memory
    """

    model: str
    approximation: str | None
    mask: str | None
    prompt_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    answer_tokens: int
    draft_tokens: int
    accepted_draft_tokens: int
    parameters_total: int
    parameters_active: int
    flops: int
    dense_flops: int
    memory_bytes: int
    weight_bytes: int
    streamed: StreamedWork | None
    queue_s: float
    prefill_s: float
    decode_s: float
    joules: Joules
    tariff: Tariff

    @property
    def inexact(self) -> str | None:
        """How the answer differs from the model's own, in a word or two; None where it does not."""
        return self.approximation if self.mask is None else f"mask {self.mask}"

    @property
    def completion_tokens(self) -> int:
        """Everything that was generated."""
        return self.reasoning_tokens + self.answer_tokens

    @property
    def disk_bytes(self) -> int:
        """Read from disk; 0 where all weights are in memory."""
        return 0 if self.streamed is None else self.streamed.disk_bytes

    @property
    def expert_hits(self) -> float | None:
        """Share of experts that no read had to begin for; None where all are in memory."""
        return None if self.streamed is None else self.streamed.hit_share

    @property
    def tok_per_s(self) -> float | None:
        """Decoding speed; None for an answer of one token, which has no decoding time."""
        return (self.completion_tokens - 1) / self.decode_s if self.decode_s > 0 else None

    @property
    def grams_co2e(self) -> float:
        """Of the joules, by the grid's intensity."""
        return self.tariff.intensity.grams(self.joules.best)

    @property
    def money(self) -> float | None:
        """What the tokens would cost by the price list; None without one."""
        prices = self.tariff.prices
        if prices is None:
            return None
        return prices.of(self.prompt_tokens, self.cached_tokens, self.completion_tokens)

    def to_json(self) -> dict[str, Any]:
        """What stands under `usage.araio`."""
        intensity, prices = self.tariff.intensity, self.tariff.prices
        return {
            "approximation": self.approximation,
            "mask": self.mask,
            "tokens": {
                "prompt": self.prompt_tokens,
                "cached": self.cached_tokens,
                "reasoning": self.reasoning_tokens,
                "answer": self.answer_tokens,
            },
            "draft_tokens": self.draft_tokens,
            "accepted_draft_tokens": self.accepted_draft_tokens,
            "parameters_total": self.parameters_total,
            "parameters_active": self.parameters_active,
            "flops": self.flops,
            "flops_dense": self.dense_flops,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
            "expert_hits": self.expert_hits,
            "experts": self._experts(),
            "queue_s": self.queue_s,
            "prefill_s": self.prefill_s,
            "decode_s": self.decode_s,
            "tok_per_s": self.tok_per_s,
            **self.joules.to_json(),
            "grams_co2e": self.grams_co2e,
            "grid": {
                "country": intensity.country,
                "grams_per_kwh": intensity.grams_per_kwh,
                "year": intensity.year,
                "source": intensity.source,
            },
            "money": self.money,
            "prices": None
            if prices is None
            else {
                "name": prices.name,
                "date": prices.date,
                "source": prices.source,
                "currency": prices.currency,
            },
        }

    def _experts(self) -> dict[str, Any] | None:
        """What became of the experts that were asked for, and how fast the disk was while it was busy."""
        streamed = self.streamed
        if streamed is None:
            return None
        return {
            **streamed.outcomes(),
            "disk_bytes_per_s": streamed.disk_bytes_per_s,
        }
