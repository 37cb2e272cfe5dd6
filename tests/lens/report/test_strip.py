import numpy as np

from araio.lens.report.strip import LONGEST_SEQUENCE, MOST_TOKENS, strip_of
from araio.traces import Phase, Trace, TraceHeader, Valid

from .made import DOMAINS, made, text_of

ROOM = 1 << 20


def test_it_shows_tokens_as_they_are_in_the_trace():
    trace = made().trace
    strip = strip_of(trace, ROOM, text_of)
    assert strip["tokens"] == trace.tokens
    assert strip["experts"] == trace.experts.tolist()
    assert np.allclose(strip["weights"], trace.weights, atol=0.0051)
    assert [strip["vocabulary"][place] for place in strip["texts"]] == [
        text_of(int(token)) for token in trace.column("token_id")
    ]


def test_every_domain_has_its_share_of_the_room():
    trace = made().trace
    strip = strip_of(trace, 12_000, text_of)
    assert 30 < strip["tokens"] < trace.tokens
    counts = np.bincount(strip["domain"], minlength=len(DOMAINS))
    assert counts.min() == counts.max()
    # Sequences from their beginning, without gaps.
    assert strip["seq"] == sorted(strip["seq"])


def test_no_room_is_no_strip():
    assert strip_of(made().trace, 0) is None
    assert strip_of(made().trace, -5) is None


def test_long_texts_and_what_has_no_routes_are_left_out():
    count = 3 * MOST_TOKENS
    experts = np.tile(np.arange(2), (count, 1, 1))
    phase = np.where(np.arange(count) % 5 == 4, Phase.DRAFT, Phase.DECODE)
    valid = np.where(np.arange(count) % 5 == 3, Valid.CACHED, Valid.ROUTES)
    experts[valid == Valid.CACHED] = 0
    trace = Trace.from_arrays(
        TraceHeader(n_routed_experts=4, top_k=2),
        expert_ids=experts,
        phase=phase,
        valid=valid,
        seq=np.arange(count) // 1000,
    )
    strip = strip_of(trace, ROOM)
    assert strip["tokens"] == 6 * LONGEST_SEQUENCE <= MOST_TOKENS
    assert (strip["ids"], strip["texts"], strip["weights"]) == (None, None, None)
    assert strip["experts"] == [[[0, 1]]] * strip["tokens"]
