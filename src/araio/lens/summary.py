"""`summarise`: every metric of a trace in one document, with what a reader must know before believing it.

`Summary.to_json()` is what `araio lens --json` prints and what the report embeds: a few hundred kilobytes,
and one or two megabytes for DeepSeek-V3, since experts by experts are left out. All chance comes from one
seed. Read docs/metrics.md for what each number means, and for what must not be concluded from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from araio.lens.balance import Balance, balance
from araio.lens.caching import Caching, caching
from araio.lens.cautions import Caution, cautions
from araio.lens.coactivation import Coactivation, Transitions, coactivation, transitions
from araio.lens.coverage import Coverage, CoverageCurve, coverage, coverage_curve, most_used
from araio.lens.domains import DomainUse, ServingExpert, domain_use, strongest
from araio.lens.gates import Gates, gates
from araio.lens.load import Load, load_of
from araio.lens.prediction import Prediction, prediction
from araio.lens.result import Result, to_json
from araio.lens.reuse import Reuse, reuse
from araio.lens.routes import Routes
from araio.lens.sample import sample
from araio.lens.segments import Segments, segments
from araio.lens.specialisation import Divergence, Information, divergence, information
from araio.lens.vocabulary import Vocabulary, vocabulary
from araio.traces.columns import Phase, Segment
from araio.traces.header import TraceHeader
from araio.traces.trace import Trace

__all__ = ["PARTS", "DomainSize", "Summary", "summarise"]

VERSION = 1
_Made = TypeVar("_Made")
MOST_TOKENS = 1 << 14  # what reuse, caches, predictions and words are measured on: some ten seconds
LEAST_DECODED = 1000  # of so many decoded tokens or more, reuse and caches look at these alone

PARTS = (
    "domains",
    "load",
    "gates",
    "divergence",
    "information",
    "coverage",
    "coactivation",
    "reuse",
    "caching",
    "prediction",
    "vocabulary",
)
"""What `summarise` works through, in this order."""


@dataclass(frozen=True)
class DomainSize(Result):
    """How much of a domain there is: tokens whose experts are known, and what they are part of."""

    name: str
    sequences: int
    tokens: int
    prefill: int
    decode: int
    forced: int
    prompt: int
    reasoning: int
    answer: int


@dataclass(frozen=True)
class Summary(Result):
    """Everything that is known of a trace.

    header         of the trace
    layers         numbers of the L layers
    phases         by name, where only tokens that ran so were looked at; else None
    tokens         rows of the trace; `tokens_known` have experts, are part of a text and were looked at
    drafts         rows that were drafts, thrown away
    domains        how much there is of each domain
    cautions       read these first
    load           of all tokens together, (L, E); `load_by_domain` (D, L, E)
    load_but_first of all tokens but the first of each sequence, which models may treat apart
    balance        of windows of consecutive tokens, and of ranks that share the experts
    gates, divergence, information, domain_use, coactivation, transitions
                   as in the modules of these names
    serving        the experts that serve each domain most distinctly
    coverage       of each domain by its own most used half of the experts, counted on the same tokens
    coverage_curve of every domain by every other's most used experts, on other sequences
    locality_of    "decode" or "all": the tokens that reuse, caching and prediction look at
    locality_tokens how many, drawn as whole sequences; `caching.tokens` may be fewer
    reuse, segments, caching, prediction  of those
    words, next_words  how experts follow the token that is read, and the one after it; None without text
    """

    header: TraceHeader
    seed: int
    layers: tuple[int, ...]
    phases: tuple[str, ...] | None
    tokens: int
    tokens_known: int
    drafts: int
    domains: tuple[DomainSize, ...]
    cautions: tuple[Caution, ...]
    load: Load
    load_by_domain: Load
    load_but_first: Load | None
    balance: Balance
    gates: Gates
    divergence: Divergence
    information: Information
    domain_use: DomainUse
    serving: tuple[ServingExpert, ...]
    coverage: Coverage
    coverage_curve: CoverageCurve
    coactivation: Coactivation
    transitions: Transitions
    locality_of: str
    locality_tokens: int
    reuse: Reuse
    segments: Segments
    caching: Caching
    prediction: Prediction
    words: Vocabulary | None
    next_words: Vocabulary | None

    def to_json(self) -> dict[str, Any]:
        """The document: `format` and `version`, then every field by its name."""
        fields = {name: to_json(value) for name, value in vars(self).items() if name != "header"}
        header = to_json(asdict(self.header))
        return {"format": "araio-lens", "version": VERSION, "header": header, **fields}


def summarise(
    trace: Trace,
    seed: int = 0,
    *,
    phases: Sequence[Phase] | None = None,
    most_tokens: int = MOST_TOKENS,
    on_part: Callable[[str], None] = lambda part: None,
) -> Summary:
    """Every metric of a trace.

    phases       only tokens that ran so; None for all but drafts
    most_tokens  that reuse, prediction and vocabulary look at, in whole sequences; caching at half as many
    on_part      called with each of `PARTS` when it begins

    Raises:
        TraceError: the trace is damaged, or has no token whose experts are known.
    """
    routes = Routes.of(trace, phases)
    half = routes.n_experts // 2
    near, near_of = _near(trace, routes, phases, most_tokens, seed)
    words = sample(routes, most_tokens, seed) if routes.token_id is not None else None

    def part(name: str, make: Callable[[], _Made]) -> _Made:
        on_part(name)
        return make()

    use = part("domains", lambda: domain_use(routes, seed))
    return Summary(
        header=trace.header,
        seed=seed,
        layers=routes.layers,
        phases=None if phases is None else tuple(phase.name.lower() for phase in phases),
        tokens=trace.tokens,
        tokens_known=routes.tokens,
        drafts=int(np.count_nonzero(trace.column("phase") == Phase.DRAFT)),
        domains=_sizes(trace),
        cautions=cautions(trace, routes),
        load=part("load", lambda: load_of(routes.counts.sum(0), routes.top_k)),
        load_by_domain=load_of(routes.counts, routes.top_k),
        load_but_first=_load_but_first(routes),
        balance=balance(routes, seed),
        gates=part("gates", lambda: gates(routes)),
        divergence=part("divergence", lambda: divergence(routes, seed)),
        information=part("information", lambda: information(routes, seed)),
        domain_use=use,
        serving=strongest(use, routes.layers),
        coverage=part("coverage", lambda: coverage(routes, most_used(routes.counts, half))),
        coverage_curve=coverage_curve(routes, seed=seed),
        coactivation=part("coactivation", lambda: coactivation(routes)),
        transitions=transitions(routes),
        locality_of=near_of,
        locality_tokens=near.tokens,
        reuse=part("reuse", lambda: reuse(near)),
        segments=segments(near),
        caching=part("caching", lambda: caching(sample(near, most_tokens // 2, seed), seed)),
        prediction=part("prediction", lambda: prediction(near)),
        words=part("vocabulary", lambda: None if words is None else vocabulary(words, seed)),
        next_words=None if words is None else vocabulary(words, seed, which="next"),
    )


def _near(
    trace: Trace, routes: Routes, phases: Sequence[Phase] | None, most_tokens: int, seed: int
) -> tuple[Routes, str]:
    """The tokens for locality: decoded ones if there are enough, since those of a prompt run at once."""
    if phases is not None:
        return sample(routes, most_tokens, seed), "decode" if list(phases) == [Phase.DECODE] else "all"
    if np.count_nonzero(trace.where(phase=Phase.DECODE)) >= LEAST_DECODED:
        return sample(Routes.of(trace, [Phase.DECODE]), most_tokens, seed), "decode"
    return sample(routes, most_tokens, seed), "all"


def _load_but_first(routes: Routes) -> Load | None:
    is_later = np.diff(routes.seq, prepend=-1) == 0
    return load_of(routes.select(is_later).counts.sum(0), routes.top_k) if is_later.any() else None


def _sizes(trace: Trace) -> tuple[DomainSize, ...]:
    return tuple(_size(trace, index) for index in range(len(trace.domains)))


def _size(trace: Trace, domain: int) -> DomainSize:
    rows = trace.where(domain=domain)
    phase, segment = trace.column("phase")[rows], trace.column("segment")[rows]
    return DomainSize(
        name=trace.domains[domain],
        sequences=len(np.unique(trace.column("seq")[rows])),
        tokens=len(phase),
        prefill=int(np.count_nonzero(phase == Phase.PREFILL)),
        decode=int(np.count_nonzero(phase == Phase.DECODE)),
        forced=int(np.count_nonzero(phase == Phase.FORCED)),
        prompt=int(np.count_nonzero(segment == Segment.PROMPT)),
        reasoning=int(np.count_nonzero(segment == Segment.REASONING)),
        answer=int(np.count_nonzero(segment == Segment.ANSWER)),
    )
