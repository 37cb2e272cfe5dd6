"""A profile in a line, as `araio run` and `araio serve` print it: what it does, and if answers change."""

from __future__ import annotations

from collections.abc import Iterator

from araio.api import Model
from araio.expert_profile import ExpertProfile

__all__ = ["profile_lines"]


def profile_lines(model: Model) -> Iterator[str]:
    """One for each profile that the model was given; the first is the one that is pinned, or masks."""
    for place, profile in enumerate(model.profiles.known.values()):
        if place:
            yield f"profile {profile.name}: for requests that name it; {_cost(profile)}"
        elif model.profiles.default is not None:
            share, cost = _share(profile), _cost(profile)
            yield f"mask {profile.name}: {share} answer, and no others; answers change; {cost}"
        elif model.experts is None:
            yield f"profile {profile.name}: every expert is in memory, so there is nothing to pin"
        else:
            yield f"profile {profile.name}: {_share(profile)} come first in memory; answers are as without it"


def _share(profile: ExpertProfile) -> str:
    every = profile.model.n_routed_experts * len(profile.model.layers)
    return f"{profile.experts:,} of {every:,} experts ({profile.experts / every:.0%})"


def _cost(profile: ExpertProfile) -> str:
    if profile.evaluation is None:
        return "what that costs is not known, `araio profile eval` measures it"
    return "what that costs stands in its file"
