"""What a reader must know before believing the numbers of a trace: too few tokens, too few texts, gaps.

Nothing here stops anything. A number that is poorly known is shown beside the sentence that says so, in the
report, on the terminal and in JSON alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from araio.lens.resampling import MIN_SEQUENCES
from araio.lens.result import Result
from araio.lens.routes import Routes
from araio.traces.columns import Phase, Valid
from araio.traces.trace import Trace

__all__ = ["LEAST_CHOICES", "Caution", "cautions"]

LEAST_CHOICES = 50
"""Choices of an expert, at equal loads, below which a domain's load is noise as much as load."""

UNEVEN = 0.25
"""Difference of two domains' shares of prompt tokens from which on it is told."""

UNEVEN_NOISE = 1.25
"""Noise of the domains over that of dealt ones, beyond which their shuffled sequences promise too much."""


@dataclass(frozen=True)
class Caution(Result):
    """One sentence, and the kind of thing that it warns of.

    kind  prefix_cached, no_decode, uneven_prompts, profile, no_weights, one_domain, few_sequences,
          few_tokens, uneven_texts, unseen_experts
    """

    kind: str
    text: str


def cautions(trace: Trace, routes: Routes) -> tuple[Caution, ...]:
    """Everything about a trace, and the tokens of it that are looked at, that a reader must know."""
    found = [*_of_trace(trace), *_of_prompts(trace), *_of_domains(routes)]
    found += [*_of_lengths(routes), *_of_experts(routes)]
    return tuple(Caution(kind, text) for kind, text in found)


def _of_trace(trace: Trace) -> list[tuple[str, str]]:
    found = []
    cached = int(np.count_nonzero(trace.column("valid") & Valid.CACHED))
    if cached:
        found.append(
            (
                "prefix_cached",
                f"{cached:,} of {trace.tokens:,} tokens were in the prefix cache: nothing ran for them, so "
                "their experts are missing, and counts lean to what was not cached",
            )
        )
    if not np.any(trace.column("phase") == Phase.DECODE):
        found.append(
            (
                "no_decode",
                "no token was written by the model: reuse and caches are those of given text, read token by "
                "token",
            )
        )
    if trace.header.profile is not None:
        found.append(
            (
                "profile",
                f"profile {trace.header.profile} restricted the choice: these are not the experts that the "
                "whole model would use",
            )
        )
    if not trace.has("weights"):
        found.append(("no_weights", "the trace has no weights, so that all choices count alike"))
    return found


def _of_prompts(trace: Trace) -> list[tuple[str, str]]:
    shares = {}
    for index, name in enumerate(trace.domains):
        phase = trace.column("phase")[trace.where(domain=index)]
        if len(phase):
            shares[name] = float(np.mean(phase == Phase.PREFILL))
    if not shares or max(shares.values()) - min(shares.values()) < UNEVEN:
        return []
    most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    return [
        (
            "uneven_prompts",
            f"{shares[most]:.0%} of {most} and {shares[least]:.0%} of {least} are prompts: where domains "
            "differ, reading may differ from writing; compare decoded tokens alone",
        )
    ]


def _of_domains(routes: Routes) -> list[tuple[str, str]]:
    found = []
    present = np.flatnonzero(routes.domain_tokens)
    if len(present) < 2:
        found.append(("one_domain", "all tokens are of one domain: nothing can be said of specialisation"))
    for index in present.tolist():
        name, tokens = routes.domains[index], int(routes.domain_tokens[index])
        sequences = int(np.count_nonzero(routes.sequence_domain == index))
        if len(present) > 1 and sequences < MIN_SEQUENCES:
            found.append(
                (
                    "few_sequences",
                    f"{name} has {sequences} of the at least {MIN_SEQUENCES} sequences by which chance can "
                    "be judged: its differences from other domains may be those of single texts",
                )
            )
        needed = -(-LEAST_CHOICES * routes.n_experts // routes.top_k)
        if tokens < needed:
            found.append(
                (
                    "few_tokens",
                    f"{name} has {tokens:,} tokens; {needed:,} would choose each expert {LEAST_CHOICES} "
                    "times at equal loads",
                )
            )
    return found


def _of_lengths(routes: Routes) -> list[tuple[str, str]]:
    """What dealing sequences does not keep: the tokens of each domain, by which its noise goes."""
    present = np.flatnonzero(routes.domain_tokens)
    tokens = routes.domain_tokens[present]
    sequences = np.bincount(routes.sequence_domain, minlength=len(routes.domains))[present]
    dealt = sequences * routes.tokens / routes.sequences
    noise = float(np.sum(1 / tokens) / np.sum(1 / dealt))
    if noise <= UNEVEN_NOISE:
        return []
    shortest = routes.domains[int(present[np.argmin(tokens / sequences)])]
    return [
        (
            "uneven_texts",
            f"texts of {shortest} are short beside those of other domains: of the information of domain, "
            f"chance alone shows about {noise:.1f} times what shuffled sequences do, and its p is too small; "
            "the floor of the divergence and the tests of single experts allow for that",
        )
    ]


def _of_experts(routes: Routes) -> list[tuple[str, str]]:
    unseen = np.count_nonzero(routes.counts.sum(0) == 0, axis=1)
    if not unseen.any():
        return []
    worst = int(unseen.argmax())
    return [
        (
            "unseen_experts",
            f"{np.count_nonzero(unseen)} of {routes.depth} layers have experts that no token chose, up to "
            f"{unseen[worst]} of {routes.n_experts} in layer {routes.layers[worst]}",
        )
    ]
