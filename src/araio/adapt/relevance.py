"""`relevant_experts`: those that a domain uses most, which are the ones worth training for it.

After ESFT (arXiv 2407.01906, section 3): the data run once, an expert's relevance is its share of its layer's
tokens or of its layer's weights, and in each layer the smallest set is taken whose shares add up to p. Read
`scores.py` for the shares, `tune.py` for what is done with the experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from araio.adapt.lessons import Lesson
from araio.adapt.scores import score
from araio.adapt.select import smallest_covering
from araio.adapt.statistics import observe
from araio.api import Model
from araio.errors import ProfileError

__all__ = ["RELEVANCES", "relevant_experts"]

RELEVANCES: Mapping[str, str] = {"token": "frequency", "gate": "gate"}
"""ESFT's names of the scores."""


def relevant_experts(
    model: Model,
    lessons: Sequence[Lesson],
    *,
    p: float = 0.2,
    relevance: str = "token",
    on_lesson: Callable[[], None] = lambda: None,
) -> dict[int, tuple[int, ...]]:
    """Experts by layer of the main model, ascending.

    p          share of each layer's relevance, above 0 and at most 1
    relevance  one of `RELEVANCES`

    Raises:
        ProfileError: a model without experts, a share or a relevance that is none.
        RequestError: a lesson longer than the context.
    """
    layers = model.config.moe_layers
    if not layers:
        raise ProfileError(f"{model.name} has no routed experts; there is nothing to choose from")
    if not 0 < p <= 1:
        raise ProfileError(f"p is {p}; expected a share above 0 and at most 1, as in 0.2")
    if relevance not in RELEVANCES:
        raise ProfileError(f"no relevance {relevance!r}; expected {' or '.join(RELEVANCES)}")
    first, *others = lessons
    seen = observe(model, first.ids)
    on_lesson()
    for lesson in others:
        seen += observe(model, lesson.ids)
        on_lesson()
    shares = score(seen.rows(layers), RELEVANCES[relevance])
    return {
        layer: tuple(int(expert) for expert in smallest_covering(row, p).nonzero()[0])
        for layer, row in zip(layers, shares, strict=True)
    }
