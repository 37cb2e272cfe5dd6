"""Ablations: what is removed, what is asked, and that a model which needs its experts shows it."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import araio
from araio.errors import ProfileError, RequestError, TraceError
from araio.eval.ablation import NOTHING, RANDOM, Ablation, Row, ablate, answers_needed, removals
from araio.eval.accuracy import evaluate
from araio.lens.routes import Routes
from araio.traces import Trace, TraceHeader

DOMAINS = ("mathematics", "logic")


@cache
def pocket() -> araio.Model:
    return araio.load("pocket")


@cache
def trace() -> Trace:
    """What pocket does with two short texts of each domain."""
    model = pocket()
    texts = (
        "What is 47 + 38 - 12?",
        "Solve 3 * x + 4 = 19 for x.",
        "Iris is slower than Zoe. Jane is faster than Zoe. Who is the fastest?",
        "All cats are animals. Tom is a cat. Is Tom an animal?",
    )
    ids = [model.tokenizer.encode(text) for text in texts]
    routes = [model.route(each) for each in ids]
    seq = np.repeat(np.arange(len(ids)), [len(each) for each in ids])
    config = model.config
    header = TraceHeader(
        model="pocket",
        fingerprint=model.fingerprint,
        layers=tuple(config.moe_layers),
        n_routed_experts=config.n_routed_experts,
        top_k=config.num_experts_per_tok,
        n_group=config.n_group,
        topk_group=config.topk_group,
        domains=DOMAINS,
    )
    experts = np.concatenate([experts for experts, _ in routes])
    return Trace.from_arrays(header, expert_ids=experts, seq=seq, domain=seq // 2)


def away(profile):
    """(L, E) which experts a profile leaves out."""
    experts = profile.model.n_routed_experts
    return np.array([[expert not in kept for expert in range(experts)] for kept in profile.keep.values()])


def test_a_domain_loses_the_experts_that_it_uses_more_than_others() -> None:
    routes = Routes.of(trace())
    found = removals(pocket(), routes, share=0.25, draws=2, seed=0)
    assert list(found) == [NOTHING, *DOMAINS, RANDOM]
    assert found[NOTHING] == [None]
    shares = routes.counts / routes.domain_tokens[:, None, None]
    for index, domain in enumerate(DOMAINS):
        (profile,) = found[domain]
        gone = away(profile)
        assert (gone.sum(axis=1) == 8).all()
        gains = shares[index] - shares[1 - index]
        for layer in range(routes.depth):
            assert gains[layer][gone[layer]].min() >= gains[layer][~gone[layer]].max()


def test_random_removals_are_as_large_differ_and_come_from_the_seed() -> None:
    routes = Routes.of(trace())

    def drawn(seed):
        return [away(one) for one in removals(pocket(), routes, share=0.25, draws=2, seed=seed)[RANDOM]]

    first, second = drawn(0)
    assert (first.sum(axis=1) == 8).all()
    assert (first != second).any()
    assert (first == drawn(0)[0]).all()
    assert (first != drawn(1)[0]).any()


def test_every_removal_is_asked_every_domain_and_nothing_removed_is_plain_accuracy() -> None:
    done = []
    found = ablate(
        pocket(), trace(), n=1, share=0.25, draws=1, seed=3, max_tokens=160, on_answer=lambda: done.append(1)
    )
    assert len(done) == answers_needed(DOMAINS, 1, 1) == 8 * 4
    assert [(row.removed, row.asked) for row in found.rows] == [
        (removed, asked) for removed in (NOTHING, *DOMAINS, RANDOM) for asked in DOMAINS
    ]
    assert all(row.n == 4 for row in found.rows)
    whole = evaluate(pocket(), ["chain", "countdown", "equation", "story"], 1, 3, max_tokens=160)
    correct = sum(result.score.correct for result in whole.tasks.values())
    assert next(row for row in found.rows if row.removed == NOTHING).correct == correct
    document = found.to_json()
    assert (document["per_layer"], document["draws"], document["domains"]) == (8, 1, list(DOMAINS))


def test_most_experts_removed_leave_little() -> None:
    """With 4 of 32 in two groups left, pocket can add no more."""
    found = ablate(pocket(), trace(), n=2, share=0.6, draws=1, max_tokens=160)
    by_removal = {row.removed: row for row in found.rows if row.asked == "mathematics"}
    assert by_removal["mathematics"].correct < by_removal[NOTHING].correct


def test_rows_carry_their_intervals() -> None:
    found = Ablation("m", 0, 5, 2, 2, ("logic",), (Row(RANDOM, "logic", 10, 5, 1, (0.4, 0.6)),))
    (row,) = found.to_json()["rows"]
    assert row["accuracy"] == 0.5
    assert row["ci95"] == pytest.approx([0.2366, 0.7634], abs=1e-3)
    assert row["draws"] == [0.4, 0.6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"draws": 0}, "draws is 0"),
        ({"share": 0.0}, "share is 0.0"),
        ({"share": 1.0}, "share is 1.0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
    ],
)
def test_numbers_out_of_range_are_told(options, message) -> None:
    with pytest.raises(RequestError, match=message):
        ablate(pocket(), trace(), **options)


def test_more_than_a_router_can_spare_is_refused() -> None:
    with pytest.raises(ProfileError, match="layer"):
        ablate(pocket(), trace(), n=1, share=0.97)


def test_a_trace_of_another_model_or_of_domains_without_questions_is_refused() -> None:
    columns = {name: trace().column(name) for name in ("seq", "domain")}

    def changed(**changes):
        header = replace(trace().header, **changes)
        return Trace.from_arrays(header, expert_ids=trace().experts, **columns)

    with pytest.raises(TraceError, match="not those of pocket"):
        ablate(pocket(), changed(fingerprint="0" * 64), n=1)
    with pytest.raises(TraceError, match="trace pocket itself"):
        ablate(pocket(), changed(fingerprint=None, layers=(2, 3, 4, 5, 6)), n=1)
    with pytest.raises(TraceError, match="domains of the trace are law, code"):
        ablate(pocket(), changed(domains=("law", "code")), n=1)
