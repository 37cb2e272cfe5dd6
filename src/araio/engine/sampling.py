"""Logits to the next token: `Sampler`, one per request.

The order is fixed: biases, penalties, what the guide allows, temperature, top-k, top-p, min-p, one draw. Each
filter sees the distribution that the one before it left, renormalised, and always keeps the most likely
token. All arithmetic is float64 on one row of logits, so the choice does not depend on what else runs. The
draws come from a Philox stream keyed by the request's seed and by nothing global. Read `guide.py` for what
may stand above the choice, `generate.py` for the loop around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator, Philox

from araio.engine.guide import Guide
from araio.engine.request import SamplingParams
from araio.errors import GenerationError

__all__ = ["Sampled", "Sampler", "score"]

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sampled:
    """One chosen token, and what the model thought of it before biases, penalties and temperature."""

    id: int
    logprob: float | None
    """Natural logarithm of the model's own probability; None if logprobs were not asked for."""
    alternatives: tuple[tuple[int, float], ...]
    """The most likely (id, logprob), best first; as many as `SamplingParams.logprobs`."""


class Sampler:
    """Chooses the tokens of one request, one call per token; holds its counts and its random stream.

    guide  forces tokens, or says which may be chosen; it is told of each
    """

    def __init__(
        self, params: SamplingParams, prompt_ids: Sequence[int], vocab_size: int, guide: Guide | None = None
    ) -> None:
        self._params = params
        self._guide = guide
        self._random = Generator(Philox(params.seed))
        self._counts = np.zeros(vocab_size, dtype=np.int64)  # of the answer so far
        self._is_seen = np.zeros(vocab_size, dtype=np.bool_)  # in the prompt or the answer
        self._is_seen[np.asarray(prompt_ids, dtype=np.int64)] = True
        self._biased = np.array([*params.logit_bias], dtype=np.int64)
        self._biases = np.array([*params.logit_bias.values()], dtype=np.float64)

    def sample(self, logits: npt.NDArray[np.float32]) -> Sampled:
        """Choose from one row of logits and remember the choice.

        logits  (W,) float32, as the model's head gives them

        Raises:
            GenerationError: a logit is NaN or infinite.
        """
        raw = _checked(logits)
        token = self._choose(self._penalise(raw)) if self._guide is None else self._guided(raw, self._guide)
        self._counts[token] += 1
        self._is_seen[token] = True
        return _report(token, raw, self._params.logprobs)

    def _guided(self, logits: Float64Array, guide: Guide) -> int:
        """What the guide forces, which draws nothing, or else a choice of what it allows."""
        token = guide.forced()
        if token is None:
            scores = self._penalise(logits)
            allowed = guide.allowed()
            if allowed is None:
                token = self._choose(scores)
            else:
                ids = np.flatnonzero(allowed)
                token = int(ids[self._choose(scores[ids])])
        guide.accept(token)
        return token

    def _penalise(self, logits: Float64Array) -> Float64Array:
        """Biases; repetition penalty (Keskar et al. 2019, arXiv 1909.05858, section 4.1); the other two."""
        params = self._params
        if self._biases.size:
            logits = logits.copy()
            logits[self._biased] += self._biases
        if params.repetition_penalty != 1.0:
            # Division makes a negative logit larger, so those are multiplied.
            factor = np.where(logits > 0, 1.0 / params.repetition_penalty, params.repetition_penalty)
            logits = np.where(self._is_seen, logits * factor, logits)
        if params.frequency_penalty or params.presence_penalty:
            logits = logits - params.frequency_penalty * self._counts
            logits = logits - params.presence_penalty * (self._counts > 0)
        return logits

    def _choose(self, logits: Float64Array) -> int:
        if self._params.temperature == 0.0:
            return int(logits.argmax())
        order, probabilities = filtered(logits, self._params)
        # Inverse of the cumulative distribution: one uniform number per token, whatever the filters keep.
        cumulative = probabilities.cumsum()
        place = int(cumulative.searchsorted(self._random.random() * cumulative[-1], side="right"))
        return int(order[min(place, order.size - 1)])


def score(token: int, logits: npt.NDArray[np.float32], alternatives: int) -> Sampled:
    """A token that was not chosen but given, as `Sampler.sample` reports one.

    Raises:
        GenerationError: a logit is NaN or infinite.
    """
    return _report(token, _checked(logits), alternatives)


def _checked(logits: npt.NDArray[np.float32]) -> Float64Array:
    raw = logits.astype(np.float64)
    if not np.isfinite(raw).all():
        raise GenerationError(
            f"{int((~np.isfinite(raw)).sum())} of {raw.size} logits are NaN or infinite; the checkpoint "
            "is damaged or a kernel is wrong: try ARAIO_KERNELS=reference, then fetch the weights again"
        )
    return raw


def _report(token: int, logits: Float64Array, alternatives: int | None) -> Sampled:
    if alternatives is None:
        return Sampled(token, None, ())
    shifted = logits - logits.max()
    logprobs = shifted - np.log(np.exp(shifted).sum())
    best = _best(logprobs, alternatives)
    return Sampled(token, float(logprobs[token]), tuple((int(i), float(logprobs[i])) for i in best))


def _best(logprobs: Float64Array, count: int) -> npt.NDArray[np.int64]:
    """The likeliest tokens, best first, equal ones by id."""
    likely = np.arange(logprobs.size)
    if 0 < count < logprobs.size:  # only what may be among them is sorted: a vocabulary is large
        likely = np.flatnonzero(logprobs >= np.partition(logprobs, -count)[-count])
    return likely[np.argsort(-logprobs[likely], kind="stable")[:count]] if count else likely[:0]


def filtered(logits: Float64Array, params: SamplingParams) -> tuple[npt.NDArray[np.int64], Float64Array]:
    """The tokens that top-k, top-p and min-p leave, most likely first, with their probabilities.

    Equal logits are ordered by token id, so that ties are cut the same way everywhere.

    logits   (W,) float64 after penalties; `params.temperature` must be above 0
    returns  (n,) token ids and (n,) probabilities that add up to 1, with n of at least 1
    """
    order = np.argsort(-logits, kind="stable")
    below_best = logits[order] - logits[order[0]]
    # A tiny temperature overflows to -inf, which is probability 0, as it should be.
    with np.errstate(over="ignore", under="ignore"):
        probabilities = np.exp(below_best / params.temperature)
    if params.top_k:
        probabilities = probabilities[: params.top_k]
    if params.top_p < 1.0:
        cumulative = probabilities.cumsum()
        keep = int(cumulative.searchsorted(params.top_p * cumulative[-1], side="left")) + 1
        probabilities = probabilities[:keep]
    if params.min_p > 0.0:
        # Relative to the best token, so no renormalisation is needed first (Nguyen et al. 2024,
        # arXiv 2407.01082). The probabilities fall, so what is kept is a prefix.
        probabilities = probabilities[probabilities >= params.min_p * probabilities[0]]
    return order[: probabilities.size], probabilities / probabilities.sum()
