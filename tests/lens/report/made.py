"""A small trace with experts that are known to serve a domain, its report, and where a browser is."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from araio.lens.report import report_document
from araio.lens.summary import Summary, summarise
from araio.traces import CacheEvent, CacheEvents, Trace, TraceHeader

DOMAINS = ("mathematics", "logic", "language")
LAYERS = (1, 2, 4)
EXPERTS, TOP_K, SEQUENCES, TOKENS = 16, 2, 10, 30
HOSTILE = "</script><script>alert(1)</script><b>&amp;"
"""What the first token says."""

PLANTED = {0: 5, 1: 6, 2: 7}
"""In the second layer each domain always chooses an expert that others never do, in the third sometimes."""


@dataclass(frozen=True)
class Made:
    trace: Trace
    summary: Summary
    document: dict[str, Any]


def planted_trace(domains: tuple[str, ...] = DOMAINS, *, with_events: bool = False) -> Trace:
    """Sequences of random experts, but for the planted ones."""
    random = np.random.default_rng(3)
    count = len(domains) * SEQUENCES * TOKENS
    experts = np.argsort(random.random((count, len(LAYERS), EXPERTS)), axis=2)[:, :, :TOP_K]
    domain = np.repeat(np.arange(len(domains)), SEQUENCES * TOKENS)
    planted = np.array(list(PLANTED.values()))[domain]
    others = random.integers(8, EXPERTS, count)
    experts[:, 1] = np.stack([planted, others], axis=1)
    is_planted = random.random(count) < 0.4
    experts[is_planted, 2] = experts[is_planted, 1]
    weights = random.dirichlet((2, 1), (count, len(LAYERS)))
    header = TraceHeader(
        model="made",
        fingerprint="f" * 64,
        layers=LAYERS,
        n_routed_experts=EXPERTS,
        top_k=TOP_K,
        n_group=2,
        topk_group=2,
        norm_topk_prob=True,
        domains=domains,
    )
    return Trace.from_arrays(
        header,
        expert_ids=experts,
        weights=-np.sort(-weights, axis=2),
        seq=np.repeat(np.arange(len(domains) * SEQUENCES), TOKENS),
        domain=domain,
        token_id=np.arange(count) % 50,
        segment=np.tile(np.arange(TOKENS) // 10, len(domains) * SEQUENCES),
        cache_events=events(count) if with_events else None,
    )


def events(count: int) -> CacheEvents:
    """Every token misses in layer 1 and hits in layer 2."""
    t = np.repeat(np.arange(count, dtype=np.int32), 2)
    layer = np.tile(np.array([1, 2], np.uint8), count)
    kind = np.tile(np.array([CacheEvent.MISS, CacheEvent.HIT], np.uint8), count)
    size = np.tile(np.array([1000, 0], np.uint32), count)
    return CacheEvents(t, layer, np.zeros(2 * count, np.uint16), kind, size, np.zeros(2 * count, np.uint32))


def text_of(token: int) -> str:
    """The texts of tokens: markup, a line end, words."""
    return {0: HOSTILE, 1: "\n"}.get(token, f" word{token}")


@cache
def made() -> Made:
    """The trace with everything that a report can have."""
    trace = planted_trace(with_events=True)
    summary = summarise(trace)
    return Made(trace, summary, report_document(trace, summary, text_of=text_of, ablation=ABLATION))


def row(removed: str, asked: str, accuracy: float, draws: list[float] | None = None) -> dict[str, Any]:
    return {
        "removed": removed,
        "asked": asked,
        "n": 100,
        "correct": round(100 * accuracy),
        "accuracy": accuracy,
        "ci95": [accuracy - 0.05, accuracy + 0.05],
        "unfinished": 0,
        "draws": draws,
    }


ABLATION = {
    "model": "made",
    "seed": 0,
    "n": 100,
    "per_layer": 4,
    "draws": 2,
    "domains": ["mathematics", "logic"],
    "rows": [
        row(removed, asked, 0.9 if removed != asked else 0.25, [0.85, 0.95] if removed == "random" else None)
        for removed in ("nothing", "mathematics", "logic", "random")
        for asked in ("mathematics", "logic")
    ],
}

CHROMIUM = Path("/usr/bin/chromium")
