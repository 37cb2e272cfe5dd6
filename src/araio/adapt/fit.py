"""`fit`: from what experts did to the profile of those that are kept.

    calibration = calibrate(model, read_prompts(["math.jsonl"]))
    fitted = fit(calibration, model.config, Target(keep=0.75), name="math")
    fitted.profile.save("math.json")

Sources count alike, however long their texts: each one's scores add up to 1 in a layer. If tokens counted,
the experts of whatever has the longest prompts would be kept, and those of short questions lost. Read
`scores.py` for scores and for what is protected, `select.py` for the choice, `evaluate.py` for what it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from araio.adapt.calibration import Calibration
from araio.adapt.scores import SCORES, BoolArray, mixture, opening_experts, score, super_experts
from araio.adapt.select import Target, select, smallest_covering
from araio.adapt.statistics import ExpertStatistics
from araio.config import ModelConfig
from araio.errors import ProfileError
from araio.expert_profile import ExpertProfile, check_name

__all__ = ["GENERAL_SHARE", "PROTECTIONS", "Fitted", "check_names", "check_target", "fit"]

ENOUGH_HITS = 50
"""Tokens that an expert should have been chosen for before its score is believed."""

GENERAL_SHARE = 0.15
"""Of the score, for general text where there is some: between the tenth and the fifth that are advised."""

SPARED_SHARE = 0.1
"""Of another domain's score in a layer: the foremost experts that hold it stay if the domain is spared."""

CUT_OFF_SHARE = 0.1
"""Of answers: more that ended at their limit than this are worth a word."""

_PROTECTIONS: Mapping[str, Callable[[ExpertStatistics], BoolArray]] = {
    "super": super_experts,
    "opening": opening_experts,
}

PROTECTIONS = tuple(_PROTECTIONS)
"""Experts that may be kept whatever their score: super experts, and those that sequences open with."""


@dataclass(frozen=True)
class Fitted:
    """A profile, and what speaks against trusting it, a sentence each."""

    profile: ExpertProfile
    warnings: tuple[str, ...]


def check_names(score_name: str, protect: Collection[str]) -> None:
    """Look at a score and at protections before anything runs, which may take hours.

    Raises:
        ProfileError: a name that is none of `scores.SCORES`, or of `PROTECTIONS`.
    """
    if score_name not in SCORES:
        raise ProfileError(f"no score {score_name!r}; expected one of {', '.join(SCORES)}")
    unknown = [entry for entry in protect if entry not in _PROTECTIONS]
    if unknown:
        raise ProfileError(
            f"nothing is known to protect as {unknown[0]!r}; expected {', '.join(PROTECTIONS)}"
        )


def fit(
    calibration: Calibration,
    config: ModelConfig,
    target: Target,
    *,
    name: str,
    score_name: str = "easy",
    protect: Collection[str] = ("super",),
    equal_groups: bool = False,
    general_share: float = GENERAL_SHARE,
) -> Fitted:
    """Choose the experts to keep; for the multi-token-prediction module, if it was seen, by the same rule.

    name          of the profile
    score_name    one of `scores.SCORES`
    protect       some of `PROTECTIONS`
    equal_groups  as in `select.select`; an export needs it, and it costs quality
    general_share of the score that general text decides, where the calibration has some

    Raises:
        ProfileError: an unknown score or protection, a calibration of another model, or a target that cannot
            be met.
    """
    check_names(score_name, protect)
    model, layers = calibration.model, calibration.model.layers
    if (found := model.difference(config)) is not None:
        raise ProfileError(f"what was seen is of {found}; calibrate this model itself")
    sources = [seen.rows(layers) for seen in calibration.sources.values()]
    scores = mixture([score(seen, score_name) for seen in sources])
    if calibration.general:
        general = mixture([score(seen.rows(layers), score_name) for seen in calibration.general.values()])
        scores = mixture([scores, general], [1 - general_share, general_share])
    protected = np.zeros(scores.shape, bool)
    for seen in calibration.spared.values():
        foremost = score(seen.rows(layers), score_name)
        protected |= np.stack([smallest_covering(row, SPARED_SHARE) for row in foremost])
    for entry in protect:
        for seen in sources:
            protected |= _PROTECTIONS[entry](seen)
    kept = select(scores, layers, config, target, protected, equal_groups=equal_groups)
    profile = ExpertProfile(
        name,
        model,
        kept,
        _mtp(calibration, config, target, score_name, kept, equal_groups=equal_groups),
        _method(target, score_name, protect, equal_groups) | _beside(calibration, general_share),
        _seen(calibration),
        {layer: row.tolist() for layer, row in zip(layers, scores.round(9), strict=True)},
        habits=calibration.habits,
    )
    profile.check(config)
    return Fitted(profile, tuple(_warnings(calibration, kept)))


def _mtp(
    calibration: Calibration,
    config: ModelConfig,
    target: Target,
    score_name: str,
    kept: Mapping[int, Collection[int]],
    *,
    equal_groups: bool,
) -> tuple[int, ...] | None:
    """The module's own experts, as many as in other layers where these are equal; None if it was not seen."""
    behind = [layer for layer in calibration.whole.layers if layer not in kept]
    if not behind:
        return None
    if equal_groups:
        target = Target(keep=len(next(iter(kept.values()))) / config.n_routed_experts)
    scores = mixture([score(seen.rows(behind), score_name) for seen in calibration.sources.values()])
    return select(scores, behind, config, target, equal_groups=equal_groups)[behind[0]]


def _method(
    target: Target, score_name: str, protect: Collection[str], equal_groups: bool
) -> dict[str, object]:
    share = {"keep": target.keep} if target.keep is not None else {"coverage": target.coverage}
    return {"score": score_name, **share, "protect": list(protect), "equal_groups": equal_groups}


def _beside(calibration: Calibration, general_share: float) -> dict[str, object]:
    """What else than the domain had a say, if anything had."""
    general = {"general": list(calibration.general), "general_share": general_share}
    spared = {"spared": list(calibration.spared), "spared_share": SPARED_SHARE}
    return (general if calibration.general else {}) | (spared if calibration.spared else {})


def check_target(
    target: Target, config: ModelConfig, name: str, general_share: float, *, equal_groups: bool
) -> None:
    """Look at what is asked for before anything runs; scores and protected experts may still refuse it.

    Raises:
        ProfileError: a name that is none, a share out of range, or a `keep` that no router can do with.
    """
    check_name(name)
    if not 0 <= general_share < 1:
        raise ProfileError(f"the share of general text is {general_share}; expected 0 to below 1")
    if config.moe_layers:
        alike = np.full((1, config.n_routed_experts), 1 / config.n_routed_experts)
        select(alike, config.moe_layers[:1], config, target, equal_groups=equal_groups)


def _seen(calibration: Calibration) -> dict[str, object]:
    whole = calibration.whole
    return {
        "sequences": whole.sequences,
        "tokens": whole.tokens,
        "sources": {name: seen.tokens for name, seen in calibration.sources.items()},
        "generated": calibration.generated,
        "cut_off": calibration.cut_off,
    }


def _warnings(calibration: Calibration, kept: Mapping[int, Collection[int]]) -> Iterator[str]:
    if not calibration.generated:
        yield (
            "only prompts were looked at; experts that the model thinks and answers with may be missing, so "
            "measure what this profile costs, or fit it to generated answers"
        )
    whole = calibration.whole
    if calibration.cut_off > CUT_OFF_SHARE * whole.sequences:
        yield (
            f"{calibration.cut_off} of {whole.sequences} answers were cut off at their limit; what ends an "
            "answer was seen less often than it happens"
        )
    share = whole.tokens * calibration.model.num_experts_per_tok / calibration.model.n_routed_experts
    if share < ENOUGH_HITS:
        yield (
            f"only {whole.tokens:,} tokens were looked at, {share:.0f} for each expert of a layer if all "
            f"were chosen alike; {ENOUGH_HITS} are wanted before a score is believed, so give more prompts"
        )
        return
    hits = whole.rows(tuple(kept)).chosen
    counted = np.concatenate([row[list(ids)] for row, ids in zip(hits, kept.values(), strict=True)])
    if few := int((counted < ENOUGH_HITS).sum()):
        yield (
            f"{few} of {len(counted)} kept experts were chosen for fewer than {ENOUGH_HITS} of "
            f"{whole.tokens:,} tokens; their scores are little better than guesses, and more prompts help"
        )
