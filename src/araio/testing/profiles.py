"""Profiles that keep what a test asks for; read `expert_profile/profile.py` for what a profile is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from araio.config import ModelConfig
from araio.expert_profile import ExpertProfile, ProfiledModel

__all__ = ["profile_of"]


def profile_of(
    config: ModelConfig,
    keep: Iterable[int] | Mapping[int, Iterable[int]],
    fingerprint: str = "f" * 64,
    name: str = "math",
    **more: Any,
) -> ExpertProfile:
    """A profile of a model of that config.

    keep  ids by layer, or those of every layer
    more  other fields of `ExpertProfile`
    """
    if not isinstance(keep, Mapping):
        ids = sorted(keep)
        keep = dict.fromkeys(config.moe_layers, ids)
    by_layer = {layer: tuple(ids) for layer, ids in keep.items()}
    return ExpertProfile(name, ProfiledModel.of("tiny", config, fingerprint), by_layer, **more)
