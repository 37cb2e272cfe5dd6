"""The whole document, and what its reader is warned of."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.errors import TraceError
from araio.lens.cautions import LEAST_CHOICES, cautions
from araio.lens.routes import Routes
from araio.lens.summary import PARTS, summarise
from araio.traces.columns import Phase, Segment, Valid
from araio.traces.header import TraceHeader
from araio.traces.trace import Trace

from .made import PLANTED, planted_routes, small_routes

HEADER = TraceHeader(n_routed_experts=16, top_k=4, layers=(1, 2, 3), domains=("law", "code", "poems"))


def planted_trace(header: TraceHeader = HEADER, per_domain: int = 20, **columns: Any) -> Trace:
    routes = planted_routes(1, per_domain=per_domain)
    ids = routes.experts.copy()
    weights = np.tile(np.array([0.4, 0.3, 0.2, 0.1], np.float32), (*routes.experts.shape[:2], 1))
    given = {
        "weights": weights,
        "seq": routes.seq,
        "domain": routes.domain,
        "token_id": np.random.default_rng(1).integers(0, 9, routes.tokens),
        "phase": np.where(routes.position < 20, Phase.PREFILL, Phase.DECODE),
        "segment": np.where(routes.position < 20, Segment.PROMPT, Segment.ANSWER),
    }
    if "valid" in columns:
        ids[columns["valid"] == Valid.CACHED] = weights[columns["valid"] == Valid.CACHED] = 0
    return Trace.from_arrays(header, expert_ids=ids, **{**given, **columns})


@pytest.fixture(scope="module")
def summary():
    parts: list[str] = []
    made = summarise(planted_trace(), on_part=parts.append)
    assert parts == list(PARTS)
    return made


def test_every_part_is_there_and_is_plain_json(summary) -> None:
    document = summary.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["format"], document["version"], document["seed"]) == ("araio-lens", 1, 0)
    assert document["header"]["domains"] == ["law", "code", "poems"]
    assert document["layers"] == [1, 2, 3]
    assert len(document["load"]["relative"]) == 3
    assert len(document["load_by_domain"]["relative"]) == 3
    assert document["words"]["which"] == "input"
    assert document["next_words"]["which"] == "next"
    assert set(document["caching"]["hits"]) == {"lru", "lfu", "fading", "optimal"}
    assert "pairs" not in document["coactivation"]
    assert document["cautions"] == []


def test_it_says_of_what_it_is(summary) -> None:
    assert summary.tokens == summary.tokens_known == 3600
    assert [size.to_json() for size in summary.domains[:1]] == [
        {
            "name": "law",
            "sequences": 20,
            "tokens": 1200,
            "prefill": 400,
            "decode": 800,
            "forced": 0,
            "prompt": 400,
            "reasoning": 0,
            "answer": 800,
        }
    ]
    # Prompts run at once: locality is that of what was decoded.
    assert (summary.locality_of, summary.locality_tokens) == ("decode", 2400)


def test_it_finds_what_was_planted(summary) -> None:
    named = {(one.layer - 1, one.expert): one.domain for one in summary.serving}
    assert named.items() >= PLANTED.items()
    assert summary.information.p[[0, 2]].max() < 0.01
    assert summary.coverage.choices.shape == (3, 3)
    assert (summary.load.counts == summary.load_by_domain.counts.sum(0)).all()
    assert summary.load_but_first.counts.sum() == (3600 - 60) * 3 * 4


def test_the_same_seed_gives_the_same_document(summary) -> None:
    again = summarise(planted_trace(), most_tokens=1 << 14)
    assert again.to_json() == summary.to_json()
    assert summarise(planted_trace(), seed=1).to_json() != summary.to_json()


def test_a_trace_without_text_weights_or_decoding() -> None:
    made = summarise(planted_trace(per_domain=4, token_id=None, weights=None, phase=None), most_tokens=300)
    document = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert document["words"] is document["next_words"] is None
    assert document["gates"]["shares"] == [[None] * 4] * 3
    assert (made.locality_of, made.locality_tokens) == ("all", 300)
    assert {one.kind for one in made.cautions} == {"few_sequences", "no_decode", "no_weights"}


def test_the_smallest_trace_there_can_be() -> None:
    header = TraceHeader(n_routed_experts=1, top_k=1)
    made = summarise(Trace.from_arrays(header, expert_ids=np.zeros((1, 1, 1), int)))
    json.dumps(made.to_json(), allow_nan=False)
    assert {one.kind for one in made.cautions} >= {"one_domain", "few_tokens"}
    with pytest.raises(TraceError, match="none of the trace's 1 tokens has known experts"):
        summarise(Trace.from_arrays(header, expert_ids=np.zeros((1, 1, 1), int), valid=[Valid.CACHED]))


@settings(max_examples=25, deadline=None)
@given(small_routes(), st.booleans())
def test_any_small_trace_has_a_document(routes: Routes, has_text: bool) -> None:
    header = TraceHeader(n_routed_experts=routes.n_experts, top_k=routes.top_k, domains=routes.domains)
    columns = {"seq": routes.seq, "domain": routes.domain, "position": routes.position}
    columns |= {"weights": routes.weights, "margin": routes.margin}
    if has_text:
        columns["token_id"] = routes.token_id
    made = summarise(Trace.from_arrays(header, expert_ids=routes.experts, **columns), most_tokens=20)
    json.dumps(made.to_json(), allow_nan=False)
    assert made.tokens_known == routes.tokens


def texts(trace: Trace) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in cautions(trace, Routes.of(trace)):
        found.setdefault(one.kind, []).append(one.text)
    return found


def test_cached_tokens_and_profiles_are_told() -> None:
    rows = 3600
    valid = np.where(np.arange(rows) % 60 < 10, Valid.CACHED, Valid.ROUTES)
    told = texts(planted_trace(replace(HEADER, profile="ab12"), valid=valid))
    assert told["prefix_cached"][0].startswith("600 of 3,600 tokens were in the prefix cache")
    assert told["profile"][0].startswith("profile ab12 restricted the choice")


def test_domains_that_are_read_more_than_written_are_told() -> None:
    routes = planted_routes(1)
    phase = np.where((routes.domain == 2) | (routes.position < 20), Phase.PREFILL, Phase.DECODE)
    told = texts(planted_trace(phase=phase))
    assert told["uneven_prompts"][0].startswith("100% of poems and 33% of law are prompts")


def test_few_sequences_and_few_tokens_are_told_by_domain() -> None:
    told = texts(planted_trace(per_domain=3))
    assert len(told["few_sequences"]) == 3
    assert told["few_sequences"][0].startswith("law has 3 of the at least 8 sequences")
    assert len(told["few_tokens"]) == 3
    assert f"{LEAST_CHOICES * 16 // 4} would choose each expert" in told["few_tokens"][0]


def test_short_texts_of_one_domain_are_told() -> None:
    seq = np.repeat(np.arange(40), np.repeat([200, 20], 20))
    header = TraceHeader(n_routed_experts=4, top_k=1, domains=("law", "poems"))
    columns = {"seq": seq, "domain": seq // 20}
    told = texts(Trace.from_arrays(header, expert_ids=(seq % 4)[:, None, None], **columns))
    assert told["uneven_texts"][0].startswith("texts of poems are short")
    assert "about 3.0 times" in told["uneven_texts"][0]


def test_experts_that_nobody_chose_are_told_with_the_worst_layer() -> None:
    header = TraceHeader(n_routed_experts=16, top_k=4, layers=(1, 2, 3))
    ids = planted_routes(1).experts.copy()
    ids[:, 1] = [0, 1, 2, 3]
    told = texts(Trace.from_arrays(header, expert_ids=ids))
    assert told["unseen_experts"] == [
        "1 of 3 layers have experts that no token chose, up to 12 of 16 in layer 2"
    ]
