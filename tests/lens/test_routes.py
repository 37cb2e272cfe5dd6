"""What of a trace metrics look at, and the counts that they share."""

import numpy as np
import pytest
from hypothesis import given

from araio.errors import TraceError
from araio.lens.routes import Routes
from araio.traces.columns import Phase, Valid
from araio.traces.header import TraceHeader
from araio.traces.trace import Trace

from .made import rows, small_routes

HEADER = TraceHeader(n_routed_experts=4, top_k=1, layers=(3,), domains=("law", "code"))


def trace_of(**columns: object) -> Trace:
    return Trace.from_arrays(HEADER, **columns)


def test_sequences_that_ran_together_are_taken_apart_and_put_in_order() -> None:
    ids = np.array([0, 1, 2, 3, 0, 1])[:, None, None]
    trace = trace_of(
        expert_ids=ids, seq=[7, 2, 7, 2, 7, 2], position=[0, 0, 1, 1, 2, 2], domain=[1, 0, 1, 0, 1, 0]
    )
    routes = Routes.of(trace)
    assert routes.experts[:, 0, 0].tolist() == [1, 3, 1, 0, 2, 0]
    assert routes.seq.tolist() == [0, 0, 0, 1, 1, 1]
    assert routes.domain.tolist() == [0, 0, 0, 1, 1, 1]
    assert routes.position.tolist() == [0, 1, 2, 0, 1, 2]
    assert (routes.layers, routes.domains, routes.n_experts) == ((3,), ("law", "code"), 4)
    assert routes.weights is None
    assert routes.token_id is None


def test_cached_tokens_and_drafts_are_left_out() -> None:
    trace = trace_of(
        expert_ids=np.array([0, 1, 2, 3])[:, None, None],
        valid=[Valid.CACHED, Valid.ROUTES, Valid.ROUTES | Valid.GUIDED, Valid.ROUTES],
        phase=[Phase.PREFILL, Phase.PREFILL, Phase.DECODE, Phase.DRAFT],
    )
    assert Routes.of(trace).experts[:, 0, 0].tolist() == [1, 2]
    assert Routes.of(trace, [Phase.DECODE]).experts[:, 0, 0].tolist() == [2]
    with pytest.raises(TraceError, match="none of the trace's 4 tokens has known experts in forced"):
        Routes.of(trace, [Phase.FORCED])


def test_a_sequence_that_changes_its_domain_counts_as_two() -> None:
    trace = trace_of(expert_ids=np.zeros((4, 1, 1), int), domain=[0, 0, 1, 1])
    routes = Routes.of(trace)
    assert routes.seq.tolist() == [0, 0, 1, 1]
    assert routes.sequence_domain.tolist() == [0, 1]


@given(small_routes())
def test_counts_are_those_of_a_loop(routes: Routes) -> None:
    counts = np.zeros((len(routes.domains), routes.depth, routes.n_experts), int)
    mass = np.zeros(counts.shape)
    by_sequence = np.zeros((routes.sequences, *counts.shape[1:]), int)
    for token, layer, chosen in rows(routes):
        for rank, expert in enumerate(chosen):
            counts[routes.domain[token], layer, expert] += 1
            by_sequence[routes.seq[token], layer, expert] += 1
            mass[routes.domain[token], layer, expert] += routes.weights[token, layer, rank]
    assert (routes.counts == counts).all()
    assert (routes.sequence_counts == by_sequence).all()
    assert routes.gate_mass == pytest.approx(mass)
    assert (routes.counts.sum(2) == routes.top_k * routes.domain_tokens[:, None]).all()
    assert routes.sequence_tokens.sum() == routes.tokens


@given(small_routes())
def test_a_selection_has_the_rows_it_was_asked_for(routes: Routes) -> None:
    wanted = routes.experts[:, 0, 0] % 2 == 0
    selected = routes.select(wanted)
    assert (selected.experts == routes.experts[wanted]).all()
    assert (selected.position == routes.position[wanted]).all()
    assert selected.sequences == len(set(routes.seq[wanted].tolist()))
    assert (np.diff(selected.seq) >= 0).all()
    assert (selected.sequence_domain[selected.seq] == routes.domain[wanted]).all()
