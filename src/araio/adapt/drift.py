"""`drift`: how far a profile's experts alone are from the whole model, on text that the whole model wrote.

Both see each token after the same text, so that an early difference does not grow, and only the model's own
tokens count: what it would have said of the words of a prompt is nobody's loss. The distance is exact, over
the whole vocabulary: both models' scores are there at the same time, a piece of the text at a time. Read
`behaviour.py` for what the difference does to answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.adapt.answers import Asked
from araio.api import Model
from araio.errors import GenerationError
from araio.eval.divergence import compare
from araio.expert_profile import ExpertProfile
from araio.nn.kv_cache import LatentCache
from araio.nn.mask import ExpertMask

__all__ = ["Drift", "drift"]


@dataclass(frozen=True)
class Drift:
    """Over so many tokens of answers.

    kl_mean, kl_p95, kl_p99  of KL(whole || kept), in nats
    top1_agreement           share of tokens before which both find the same one the most likely
    perplexity               of the whole model's answers, for the kept experts
    whole_perplexity         the same for the whole model
    """

    tokens: int
    kl_mean: float
    kl_p95: float
    kl_p99: float
    top1_agreement: float
    perplexity: float
    whole_perplexity: float

    def to_json(self) -> dict[str, Any]:
        """As it stands in a profile's evaluation."""
        return asdict(self)


def drift(
    model: Model,
    profile: ExpertProfile,
    asked: Sequence[Asked],
    on_sequence: Callable[[], None] = lambda: None,
) -> Drift:
    """Compare the model with itself under the profile's mask.

    asked        what the whole model answered; at least one token in all
    on_sequence  called after each

    Raises:
        GenerationError: what either gives is not a number.
    """
    mask = ExpertMask(profile)
    columns: list[npt.NDArray[np.float64]] = []
    for one in asked:
        columns.extend(_columns(model, mask, one))
        on_sequence()
    kl, agrees, loss, whole_loss = np.concatenate(columns, axis=1)
    if not np.isfinite(kl).all():
        raise GenerationError(f"{model.name} with profile {profile.name!r} gives what is not a number")
    return Drift(
        len(kl),
        float(kl.mean()),
        float(np.quantile(kl, 0.95)),
        float(np.quantile(kl, 0.99)),
        float(agrees.mean()),
        math.exp(loss.mean()),
        math.exp(whole_loss.mean()),
    )


def _columns(model: Model, mask: ExpertMask, one: Asked) -> Iterator[npt.NDArray[np.float64]]:
    """Of the positions in front of generated tokens, as `divergence.compare` gives them."""
    network, ids = model.network, one.ids
    caches = [LatentCache(network.new_pool(len(ids))) for _ in range(2)]
    for start in range(0, len(ids) - 1, model.chunk):
        stop = min(start + model.chunk, len(ids) - 1)
        first = max(start, one.prompt_tokens - 1)
        with model.engine.lock:
            whole = network.forward(ids[start:stop], caches[0])
            kept = network.forward(ids[start:stop], caches[1], mask=mask)
            if first >= stop:
                continue
            rows = slice(first - start, stop - start)
            logits, reference = network.logits(kept[rows]), network.logits(whole[rows])
        yield from compare(logits, reference, ids[first : stop + 1])
