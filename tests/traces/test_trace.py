"""A trace in memory: its columns, its order, what is counted of it, and traces joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from araio.errors import TraceError
from araio.traces import CacheEvents, Phase, Segment, Trace, Valid

from .conftest import assert_same, columns, header


def test_rows_are_in_order_of_their_sequences(trace):
    given = columns()
    order = np.argsort(given["seq"], kind="stable")
    np.testing.assert_array_equal(trace.clock, order)
    np.testing.assert_array_equal(trace.column("seq"), given["seq"][order])
    np.testing.assert_array_equal(trace.column("token_id"), given["token_id"][order])
    np.testing.assert_array_equal(trace.recorded()["token_id"], given["token_id"])
    lengths = [part.stop - part.start for part in trace.sequences]
    assert lengths == np.bincount(given["seq"]).tolist()
    assert all(len(set(trace.column("seq")[part])) == 1 for part in trace.sequences)


def test_experts_of_a_token_fall_by_weight(trace):
    given, order = columns(), trace.clock
    assert (trace.weights[..., 1:] <= trace.weights[..., :-1]).all()
    for token, layer in ((0, 0), (7, 2)):
        pairs = dict(
            zip(given["expert_ids"][order[token], layer], given["weights"][order[token], layer], strict=True)
        )
        for expert, weight in zip(trace.experts[token, layer], trace.weights[token, layer], strict=True):
            assert pairs[expert] == pytest.approx(weight, rel=1e-3)


def test_types_are_the_smallest_that_hold_the_ids():
    few = Trace.from_arrays(header(), **columns())
    many = Trace.from_arrays(header(n_routed_experts=300), **columns(experts=300))
    assert (few.experts.dtype, many.experts.dtype) == (np.uint8, np.uint16)


def test_what_is_left_out_is_filled_in():
    ids = columns()["expert_ids"]
    seq = np.array([3, 1, 3, 1, 1])
    trace = Trace.from_arrays(header(), expert_ids=ids[[0, 1, 2, 3, 5]], seq=seq)
    assert trace.recorded()["position"].tolist() == [0, 0, 1, 1, 2]
    assert not trace.has("weights")
    assert not trace.header.has_text
    assert set(trace.column("phase")) == {Phase.PREFILL}
    assert trace.where().all()
    with pytest.raises(TraceError, match="no column 'weights'"):
        _ = trace.weights
    with pytest.raises(
        TraceError, match="no trace has a column 'gate_weights'; expected one of expert_ids, weights"
    ):
        trace.column("gate_weights")


def test_columns_cannot_be_changed_by_accident(trace):
    with pytest.raises(ValueError, match="read-only"):
        trace.experts[0, 0, 0] = 1


def test_where():
    given = columns(tokens=200)
    trace = Trace.from_arrays(header(), **given)
    order = trace.clock
    has_routes = (given["valid"] == Valid.ROUTES)[order]
    domain, phase, segment = (given[name][order] for name in ("domain", "phase", "segment"))
    is_text = phase != Phase.DRAFT
    np.testing.assert_array_equal(trace.where(), has_routes & is_text)
    np.testing.assert_array_equal(trace.where(valid=None), is_text)
    np.testing.assert_array_equal(trace.where(valid=False), ~has_routes & is_text)
    np.testing.assert_array_equal(trace.where(domain="law"), has_routes & is_text & (domain == 1))
    np.testing.assert_array_equal(trace.where(domain=["law", np.int64(0)]), has_routes & is_text)
    np.testing.assert_array_equal(trace.where(phase=Phase.DRAFT), has_routes & (phase == Phase.DRAFT))
    chosen = trace.where(segment=[Segment.REASONING, Segment.ANSWER], phase=(Phase.DECODE, Phase.FORCED))
    np.testing.assert_array_equal(chosen, has_routes & (segment > 0) & np.isin(phase, [1, 3]))
    for unknown in ("chess", 2, -1):
        with pytest.raises(TraceError, match="expected one of math, law"):
            trace.where(domain=unknown)


def test_counts_are_those_of_a_plain_loop():
    given = columns(tokens=120)
    trace = Trace.from_arrays(header(), **given)
    n, pair = np.zeros((2, 4, 3, 16), int), np.zeros((3, 16, 16), int)
    trans, gate = np.zeros((2, 16, 16), int), np.zeros(n.shape)
    for row in range(120):
        if not given["valid"][row] & Valid.ROUTES:
            continue
        place = given["domain"][row], given["phase"][row]
        for layer in range(3):
            ids = given["expert_ids"][row, layer]
            for k, a in enumerate(ids):
                n[(*place, layer, a)] += 1
                gate[(*place, layer, a)] += np.float16(given["weights"][row, layer, k])
                if place[1] == Phase.DRAFT:
                    continue
                for b in ids:
                    pair[layer, a, b] += a != b
                for b in given["expert_ids"][row, layer + 1] if layer < 2 else ():
                    trans[layer, a, b] += 1
    np.testing.assert_array_equal(trace.counts.n, n)
    np.testing.assert_allclose(trace.counts.gate, gate)
    np.testing.assert_array_equal(trace.counts.pair, pair)
    np.testing.assert_array_equal(trace.counts.trans, trans)
    assert (trace.counts.n.sum(axis=3) % 4 == 0).all()


# ---------------------------------------------------------------------- what is refused


def change(name, row, value):
    given = columns()
    given[name] = np.array(given[name], float if name == "weights" else None)
    given[name][row] = value
    return given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (change("expert_ids", (3, 1, 2), 16), "column 'expert_ids': row 3: an expert beyond the 16"),
        (change("expert_ids", (3, 1), [1, 2, 3, 2]), "column 'expert_ids': row 3: an expert is chosen twice"),
        (
            change("expert_ids", (3, 1, 2), -1),
            "column 'expert_ids' holds int64 up to 15; expected integers from 0",
        ),
        (change("expert_ids", (4, 0, 0), 5), "column 'expert_ids': row 4: something is there"),
        (change("weights", (6, 1, 2), np.nan), "column 'weights': row 6: a weight is not a number"),
        (change("weights", (6, 1, 2), np.inf), "column 'weights': row 6: a weight is not a number"),
        (change("weights", (6, 1), [1.2, 0.2, 0.1, -0.5]), "column 'weights': row 6: a weight is negative"),
        (
            change("weights", (6, 1), [0.5, 0.2, 0.1, 0.1]),
            "column 'weights': row 6: weights do not add up to 1",
        ),
        (change("weights", (4, 1, 0), 0.5), "column 'weights': row 4: something is there"),
        (change("margin", (8, 0), -1), "column 'margin': row 8: a margin is negative"),
        (change("domain", 2, 2), "column 'domain': row 2: a domain beyond the 2"),
        (change("phase", 2, 4), "column 'phase': row 2: a number above 3"),
        (change("segment", 2, 3), "column 'segment': row 2: a number above 2"),
        (change("valid", 2, 8), "column 'valid': row 2: a number above 7"),
        (change("seq", 2, -1), "column 'seq': row 2: a negative number"),
        (change("position", 2, 1 << 31), "column 'position' holds int64 up to 2147483648"),
        (columns() | {"seq": np.zeros(49, int)}, r"column 'seq' has the shape \(49,\); expected \(50,\)"),
        (columns() | {"weights": np.zeros((50, 3, 3))}, r"column 'weights' has the shape"),
        (columns() | {"seq": np.zeros(50)}, "column 'seq' holds float64"),
        (columns() | {"surprise": np.zeros(50)}, "no trace has a column 'surprise'"),
        (columns(layers=2), "has 2 layers; expected the header's 3"),
        (columns(top_k=3), r"column 'expert_ids' has the shape \(50, 3, 3\); expected \(tokens, layers, 4\)"),
        ({"expert_ids": np.zeros((0, 3, 4), int)}, "has 0 tokens"),
        ({"expert_ids": "abc"}, "column 'expert_ids' has the shape"),
    ],
)
def test_arrays_that_contradict_each_other(given, message):
    with pytest.raises(TraceError, match=message):
        Trace.from_arrays(header(), **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 17}, "top_k is 17; expected 1 to the 16"),
        ({"n_routed_experts": 0}, "n_routed_experts is 0"),
        ({"n_group": 3}, "n_group is 3"),
        ({"n_group": 4, "topk_group": 5}, "topk_group 5"),
        ({"layers": (3, 2, 4)}, r"layers are \[3, 2, 4\]; expected rising"),
        ({"domains": ()}, "domains are"),
        ({"domains": ("a", "a")}, "domains are"),
        ({"columns": ("logits",)}, "column 'logits' is not known"),
    ],
)
def test_headers_that_no_model_has(changes, message):
    with pytest.raises(TraceError, match=message):
        header(**changes)


# ---------------------------------------------------------------------- traces joined


def test_joined_traces_keep_their_domains_and_sequences():
    first = Trace.from_arrays(header(), **columns(seed=1))
    second = Trace.from_arrays(header(domains=("law", "chess")), **columns(seed=2))
    joined = Trace.join([first, second])
    assert joined.domains == ("math", "law", "chess")
    assert joined.tokens == 100
    assert len(joined.sequences) == len(first.sequences) + len(second.sequences)
    np.testing.assert_array_equal(
        joined.counts.n.sum(axis=(0, 1)), first.counts.n.sum(axis=(0, 1)) + second.counts.n.sum(axis=(0, 1))
    )
    assert (
        joined.where(domain="law").sum() == first.where(domain="law").sum() + second.where(domain="law").sum()
    )
    np.testing.assert_array_equal(joined.recorded()["token_id"][50:], columns(seed=2)["token_id"])


def test_joined_traces_lose_what_one_of_them_lacks():
    given = columns()
    del given["margin"], given["token_id"]
    joined = Trace.join([Trace.from_arrays(header(), **columns()), Trace.from_arrays(header(), **given)])
    assert joined.header.columns == ("weights",)


def test_cache_events_keep_their_rows_when_traces_are_joined():
    events = CacheEvents(*(np.array(values) for values in ([0, 50], [1, 3], [2, 15], [0, 1], [0, 9], [0, 5])))
    one = Trace.from_arrays(header(), cache_events=events, **columns())
    joined = Trace.join([one, one])
    assert joined.cache_events.t.tolist() == [0, 50, 50, 100]
    assert joined.cache_events.layer.tolist() == [1, 3, 1, 3]
    assert Trace.join([one, Trace.from_arrays(header(), **columns())]).cache_events is None


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": "cd" * 32},
        {"fingerprint": None},
        {"n_routed_experts": 32},
        {"profile": "abc"},
        {"norm_topk_prob": None},
        {"layers": (1, 2, 4)},
    ],
)
def test_traces_of_different_models_are_not_joined(trace, changes):
    other = Trace.from_arrays(replace(trace.header, **changes), **columns())
    with pytest.raises(TraceError, match=f"has {next(iter(changes))} .*only traces of one model"):
        Trace.join([trace, other])


def test_traces_of_unknown_models_are_joined_if_they_look_alike():
    unknown = header(fingerprint=None, layers=())
    three = Trace.from_arrays(unknown, **columns())
    assert Trace.join([three, three]).tokens == 100
    with pytest.raises(TraceError, match="has 3 layers, one of 'tiny' 2"):
        Trace.join([three, Trace.from_arrays(unknown, **columns(layers=2))])
    with pytest.raises(TraceError, match="at least one"):
        Trace.join([])
    assert Trace.join([three]) is three


# ---------------------------------------------------------------------- counts alone


def test_a_trace_of_counts_alone(tmp_path):
    trace = Trace.from_counts(header(), np.full((3, 16), 5))
    assert (trace.tokens, trace.n_layers) == (20, 3)
    assert trace.counts.n[0, Phase.FORCED].tolist() == np.full((3, 16), 5).tolist()
    with pytest.raises(TraceError, match="no column 'expert_ids'"):
        _ = trace.experts
    with pytest.raises(TraceError, match="counts alone cannot be joined"):
        Trace.join([trace, trace])
    trace.save(tmp_path / "counts.moetrace")
    assert_same(trace, Trace.open(tmp_path / "counts.moetrace"))
    assert Trace.open(tmp_path / "counts.moetrace").tokens == 20


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (np.zeros((3, 16), int), "counts no tokens"),
        (np.ones((3, 8), int), "expected whole numbers"),
        (np.ones((3, 16)), "expected whole numbers"),
        (-np.ones((3, 16), int), "expected whole numbers"),
        (np.array([[1] * 16, [2] * 16]), "layers count 16 to 32 choices; expected the same"),
        (np.eye(1, 16, dtype=int), "4 for each token"),
    ],
)
def test_counts_that_are_not_of_tokens(n, message):
    with pytest.raises(TraceError, match=message):
        Trace.from_counts(header(layers=()), n)
