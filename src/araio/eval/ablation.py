"""`ablate`: accuracy by domain when a domain's experts are taken away, against as many at random.

Statistics of a trace say what is used together with what; they do not say what is needed. Here a model
answers the same questions several times, each time unable to choose some of its experts: those by which one
domain stands out, for each domain in turn, and random ones, drawn several times. If experts are a domain's
own, its accuracy falls further than with random ones, and other domains keep theirs. Refuses a trace of
another model, domains without questions, and more experts than a router can spare. Read `lens/domains.py` for
who serves whom, `accuracy.py` for how answers are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from araio.api import Model
from araio.errors import ProfileError, RequestError, TraceError
from araio.eval.prompts import BUNDLED_DOMAINS
from araio.eval.wilson import wilson_interval
from araio.expert_profile import ExpertProfile, ProfiledModel
from araio.lens.routes import Routes
from araio.traces.trace import Trace
from araio.train.tasks import TASKS

__all__ = ["NOTHING", "RANDOM", "Ablation", "Row", "ablate", "answers_needed", "check_ablation", "removals"]

NOTHING, RANDOM = "nothing", "random"
DEFAULT_MAX_TOKENS = 2048
MOST_ATTEMPTS = 200

Removal: TypeAlias = Mapping[int, Sequence[int]]
"""Experts that cannot be chosen, by layer."""


@dataclass(frozen=True)
class Row:
    """Questions of one domain, asked while some experts were away.

    removed  `NOTHING`, `RANDOM` (all draws together), or the domain whose experts were away
    asked    the domain of the questions
    draws    accuracy of each draw; None but for `RANDOM`
    """

    removed: str
    asked: str
    n: int
    correct: int
    unfinished: int
    draws: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Share of right answers with Wilson's 95 % interval."""
        return {
            "removed": self.removed,
            "asked": self.asked,
            "n": self.n,
            "correct": self.correct,
            "accuracy": self.correct / self.n,
            "ci95": list(wilson_interval(self.correct, self.n)),
            "unfinished": self.unfinished,
            "draws": None if self.draws is None else list(self.draws),
        }


@dataclass(frozen=True)
class Ablation:
    """What every removal did to every domain's accuracy.

    per_layer  experts that are away in each layer
    n          questions of each task
    draws      how often random experts were drawn
    """

    model: str
    seed: int
    n: int
    per_layer: int
    draws: int
    domains: tuple[str, ...]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """The part `ablation` of a report and of `araio lens --json`."""
        return {
            "model": self.model,
            "seed": self.seed,
            "n": self.n,
            "per_layer": self.per_layer,
            "draws": self.draws,
            "domains": list(self.domains),
            "rows": [row.to_json() for row in self.rows],
        }


@dataclass(frozen=True)
class _Count:
    n: int
    correct: int
    unfinished: int


def ablate(
    model: Model,
    trace: Trace,
    *,
    n: int = 20,
    share: float = 0.25,
    draws: int = 3,
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    on_answer: Callable[[], None] = lambda: None,
) -> Ablation:
    """Ask `n` questions of each task of each traced domain, with each domain's experts away in turn.

    share      of the experts of each layer that is taken away
    draws      of random experts, as many in each layer; their answers are counted together
    on_answer  called after each of `answers_needed` answers

    Raises:
        RequestError: a number out of range.
        ProfileError: fewer experts left than a token needs.
        TraceError: a trace of another model, or without a domain that has questions.
    """
    domains, routes = check_ablation(model, trace, n=n, share=share, draws=draws, max_tokens=max_tokens)
    away = removals(model, routes, share=share, draws=draws, seed=seed)
    questions = {domain: _questions(domain, n, seed) for domain in domains}

    def counted(profile: ExpertProfile | None, domain: str) -> _Count:
        return _count(model, profile, questions[domain], max_tokens, on_answer)

    rows = []
    for name, profiles in away.items():
        for domain in domains:
            counts = [counted(profile, domain) for profile in profiles]
            rows.append(
                Row(
                    removed=name,
                    asked=domain,
                    n=sum(count.n for count in counts),
                    correct=sum(count.correct for count in counts),
                    unfinished=sum(count.unfinished for count in counts),
                    draws=tuple(count.correct / count.n for count in counts) if name == RANDOM else None,
                )
            )
    per_layer = _per_layer(routes.n_experts, share)
    return Ablation(model.label, seed, n, per_layer, draws, tuple(domains), tuple(rows))


def answers_needed(traced: Sequence[str], n: int, draws: int) -> int:
    """How many answers `ablate` asks for, given the trace's domains; raises TraceError as `ablate` does."""
    domains = asked_domains(traced)
    questions = n * sum(len(_tasks(domain)) for domain in domains)
    return questions * (1 + len(domains) + draws)


def asked_domains(traced: Sequence[str]) -> list[str]:
    """Domains of a trace that have bundled questions; raises TraceError for none."""
    known = [name for name in traced if name in BUNDLED_DOMAINS]
    if not known:
        raise TraceError(
            f"domains of the trace are {', '.join(traced)}; an ablation asks questions of "
            f"{', '.join(BUNDLED_DOMAINS)}: record with --prompts domain:{BUNDLED_DOMAINS[0]}"
        )
    return known


def _routes(model: Model, trace: Trace) -> Routes:
    """The routes of a trace that this model made."""
    header = trace.header
    if header.fingerprint is not None and header.fingerprint != model.fingerprint:
        raise TraceError(
            f"the trace is of {header.model}, whose routers are not those of {model.name}; an ablation needs "
            "the traced model, in any precision"
        )
    routes = Routes.of(trace)
    if routes.layers != tuple(model.config.moe_layers) or routes.n_experts != model.config.n_routed_experts:
        raise TraceError(
            f"the trace has {routes.n_experts} experts in layers {list(routes.layers)}, {model.name} "
            f"{model.config.n_routed_experts} in {list(model.config.moe_layers)}; trace {model.name} itself"
        )
    return routes


def removals(
    model: Model, routes: Routes, *, share: float, draws: int, seed: int
) -> dict[str, list[ExpertProfile | None]]:
    """What is taken away, under the name of whose it is: nothing, each domain's experts, random ones.

    A domain's experts are, in each layer, those whose share of its tokens exceeds their share of the other
    domains' tokens most.
    """
    per_layer = _per_layer(routes.n_experts, share)
    away: dict[str, list[ExpertProfile | None]] = {NOTHING: [None]}
    for domain in asked_domains(routes.domains):
        gains = _gains(routes, routes.domains.index(domain))
        chosen = np.argsort(-gains, axis=1, kind="stable")[:, :per_layer]
        away[domain] = [_without(model, routes, chosen, f"without-{domain}")]
    random = Random(f"{seed}/ablation")
    away[RANDOM] = [_without_random(model, routes, per_layer, random, draw) for draw in range(draws)]
    return away


def _gains(routes: Routes, index: int) -> npt.NDArray[np.float64]:
    """(L, E) share of the domain's tokens that choose an expert, less the mean share of the others'."""
    shares = routes.counts / np.maximum(routes.domain_tokens, 1)[:, None, None]
    others = [other for other in range(len(shares)) if other != index]
    gains: npt.NDArray[np.float64] = shares[index] - (shares[others].mean(0) if others else 0.0)
    return gains


def _without_random(model: Model, routes: Routes, per_layer: int, random: Random, draw: int) -> ExpertProfile:
    """A random removal that leaves the router enough in every group that it may choose."""
    for attempt in range(MOST_ATTEMPTS):
        chosen = [random.sample(range(routes.n_experts), per_layer) for _ in routes.layers]
        try:
            return _without(model, routes, chosen, f"without-random-{draw}")
        except ProfileError:
            if attempt + 1 == MOST_ATTEMPTS:
                raise
    raise AssertionError(MOST_ATTEMPTS)


def _without(
    model: Model, routes: Routes, away: npt.NDArray[np.int64] | Sequence[Sequence[int]], name: str
) -> ExpertProfile:
    everything = set(range(routes.n_experts))
    keep = {
        layer: sorted(everything - {int(expert) for expert in gone})
        for layer, gone in zip(routes.layers, away, strict=True)
    }
    profile = ExpertProfile(name, ProfiledModel.of(model.name, model.config, model.fingerprint), keep)
    profile.check(model.config, model.fingerprint)
    return profile


def _questions(domain: str, n: int, seed: int) -> list[tuple[str, int, int]]:
    return [(name, index, seed) for name in _tasks(domain) for index in range(n)]


def _tasks(domain: str) -> list[str]:
    return [task.name for task in TASKS.values() if task.domain == domain]


def _count(
    model: Model,
    profile: ExpertProfile | None,
    questions: Sequence[tuple[str, int, int]],
    max_tokens: int,
    on_answer: Callable[[], None],
) -> _Count:
    correct = unfinished = 0
    for is_right, is_finished in _answers(model, profile, questions, max_tokens):
        correct += is_right
        unfinished += not is_finished
        on_answer()
    return _Count(len(questions), correct, unfinished)


def _answers(
    model: Model, profile: ExpertProfile | None, questions: Sequence[tuple[str, int, int]], max_tokens: int
) -> Iterator[tuple[bool, bool]]:
    """Whether each answer is right, and whether it came to its end."""
    masked: dict[str, Any] = {} if profile is None else {"profile": profile}
    for name, index, seed in questions:
        # As `evaluate` draws them, so that what is lost is lost on the questions that `araio eval` asks.
        example = TASKS[name].generate(Random(f"{seed}/test/{name}/{index}"), "test")
        answer = model.chat(
            example.prompt, temperature=0, repetition_penalty=1, max_tokens=max_tokens, **masked
        )
        is_finished = answer.finish_reason == "stop"
        yield is_finished and TASKS[name].verify(example, answer.content), is_finished


def _per_layer(experts: int, share: float) -> int:
    return max(1, round(share * experts))


def check_ablation(
    model: Model,
    trace: Trace,
    *,
    n: int = 20,
    share: float = 0.25,
    draws: int = 3,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> tuple[list[str], Routes]:
    """The domains to ask and the routes to look at, before anything is asked; raises as `ablate`."""
    for name, value in (("n", n), ("draws", draws), ("max_tokens", max_tokens)):
        if value < 1:
            raise RequestError(f"{name} is {value}; expected 1 or more")
    if not 0 < share < 1:
        raise RequestError(f"share is {share}; expected more than 0 and less than 1 of the experts")
    return asked_domains(trace.domains), _routes(model, trace)
