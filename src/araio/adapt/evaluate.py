"""`evaluate`: what a profile costs on prompts that it was not fitted to, and on others' domains.

    evaluation = evaluate(model, profile, read_prompts(["domain:mathematics"], split="test"))
    profile = replace(profile, evaluation=evaluation.to_json())

The whole model answers, then the kept experts alone do, and both are compared token by token and answer by
answer. Whether a profile may be used is a rule, so that nobody has to trust a feeling: accuracy within two
points or within its interval, answers at most a fifth longer, hardly more of them in loops or cut off, hardly
fewer refusals. Where so few were asked that a loss of five points would not show, the rule says nothing. Read
`drift.py` and `behaviour.py` for the measures, `savings.py` for what is gained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import araio
from araio.adapt.answers import Asked, ask, check_whole
from araio.adapt.behaviour import Behaviour, behaviour
from araio.adapt.drift import Drift, drift
from araio.adapt.savings import MOST_SEQUENCES, Savings, savings
from araio.api import Model
from araio.eval.prompts import Prompt
from araio.expert_profile import ExpertProfile

__all__ = ["Cost", "Evaluation", "OnStep", "evaluate", "steps_of"]

ACCEPTED_LOSS, ACCEPTED_LENGTH, ACCEPTED_SHARE = 0.02, 1.2, 0.02
"""Of accuracy, in all; of a median answer's length; of answers that loop or are cut off, beyond what was."""

TOO_UNSURE = 0.05
"""A loss of accuracy that must lie outside of its interval before a profile is accepted."""

OnStep = Callable[[], None]


@dataclass(frozen=True)
class Cost:
    """Of one domain."""

    drift: Drift
    behaviour: Behaviour

    def to_json(self) -> dict[str, Any]:
        """As it stands in a profile's evaluation."""
        return {"drift": self.drift.to_json(), **self.behaviour.to_json()}


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    own      of the prompts that the profile is for
    others   of other domains, by name
    savings  None where nobody asked for them
    """

    profile_id: str
    model: str
    max_tokens: int
    own: Cost
    others: Mapping[str, Cost]
    savings: Savings | None
    seconds: float

    @property
    def objections(self) -> list[str]:
        """What speaks against using the profile where it was measured; nothing if it is accepted."""
        measured, found = self.own.behaviour, []
        accuracy = measured.accuracy
        if accuracy is not None and accuracy.change < -ACCEPTED_LOSS and accuracy.high < 0:
            found.append(f"accuracy falls by {-accuracy.change:.1%} of {accuracy.n} answers")
        if measured.length_ratio > ACCEPTED_LENGTH:
            found.append(f"answers are {measured.length_ratio:.2f} times as long")
        for name, (kept, whole) in (("loop", measured.looping), ("are cut off", measured.cut_off)):
            if kept > whole + ACCEPTED_SHARE:
                found.append(f"{kept:.1%} of answers {name}, {whole:.1%} without the profile")
        for cost in (self.own, *self.others.values()):
            refused = cost.behaviour.refused
            if refused is not None and refused[0] < refused[1] - ACCEPTED_SHARE:
                found.append(f"{refused[0]:.1%} of what should be is refused, {refused[1]:.1%} without it")
        return found

    @property
    def doubt(self) -> str | None:
        """Why nothing can be said of a profile that nothing speaks against; None where something can."""
        accuracy = self.own.behaviour.accuracy
        if accuracy is None:
            return "no prompt has a known answer, so that a loss of accuracy would not show"
        if accuracy.low < -TOO_UNSURE:
            return (
                f"{accuracy.n} answers leave room for a loss of {-accuracy.low:.1%}; ask more with --n, or "
                "give more prompts"
            )
        return None

    def to_json(self) -> dict[str, Any]:
        """As it stands in a profile, and in `araio profile eval --json`."""
        return {
            "araio": araio.__version__,
            "date": time.strftime("%Y-%m-%d"),
            "profile": self.profile_id,
            "model": self.model,
            "max_tokens": self.max_tokens,
            "accepted": not self.objections and self.doubt is None,
            "doubt": self.doubt,
            "objections": self.objections,
            "own": self.own.to_json(),
            "others": {name: cost.to_json() for name, cost in self.others.items()},
            "savings": None if self.savings is None else self.savings.to_json(),
            "seconds": self.seconds,
        }


def steps_of(prompts: Sequence[Prompt], others: Sequence[Prompt] = (), *, measures_savings: bool) -> int:
    """How often `on_step` is called for so many prompts."""
    again = 2 * min(len(prompts), MOST_SEQUENCES) if measures_savings else 0
    return 3 * (len(prompts) + len(others)) + again


def evaluate(
    model: Model,
    profile: ExpertProfile,
    prompts: Sequence[Prompt],
    others: Sequence[Prompt] = (),
    *,
    max_tokens: int,
    measures_savings: bool = True,
    on_step: OnStep = lambda: None,
) -> Evaluation:
    """Measure what the profile's experts alone lose against the whole model.

    prompts     of what the profile is for, and not those that it was fitted to
    others      of other domains; each domain, or where none is said each source, is measured by itself
    max_tokens  of an answer; a longer one counts as wrong
    measures_savings  decode some answers again with experts on disk, pinned and not
    on_step     called for each prompt when the whole model has answered, when the kept experts have, and when
                the two were compared; and for each answer that is decoded again

    Raises:
        ProfileError: a profile of another model, or a model that has a mask already.
        RequestError, TextError, CacheFullError: a prompt that cannot be asked.
        GenerationError: what the model gives is not a number.
    """
    check_whole(model)
    profile.check(model.config, model.fingerprint)
    begun_s = time.perf_counter()
    domains: dict[str, list[Prompt]] = {}
    for prompt in others:
        domains.setdefault(prompt.domain or prompt.source, []).append(prompt)
    own, whole = _cost(model, profile, prompts, max_tokens, on_step)
    measured = {name: _cost(model, profile, asked, max_tokens, on_step)[0] for name, asked in domains.items()}
    saved = savings(model, profile, whole, on_step) if measures_savings else None
    seconds = time.perf_counter() - begun_s
    return Evaluation(profile.id, model.name, max_tokens, own, measured, saved, seconds)


def _cost(
    model: Model, profile: ExpertProfile, prompts: Sequence[Prompt], max_tokens: int, on_step: OnStep
) -> tuple[Cost, list[Asked]]:
    """What it costs, and what the whole model answered."""

    def answers(**options: Any) -> list[Asked]:
        return ask(
            model,
            prompts,
            lambda asked: on_step(),
            temperature=0,
            repetition_penalty=1,
            max_tokens=max_tokens,
            **options,
        )

    whole = answers()
    kept = answers(profile=profile)
    return Cost(drift(model, profile, whole, on_step), behaviour(kept, whole)), whole
