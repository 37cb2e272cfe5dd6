from araio.lens.report.timeline import MOST_PIECES, timeline_of

from .made import made, planted_trace


def test_hits_and_misses_are_where_they_were():
    timeline = timeline_of(made().trace)
    tokens = made().trace.tokens
    assert timeline["layers"] == [1, 2]
    assert len(timeline["starts"]) <= MOST_PIECES
    assert sum(timeline["misses"][0]) == tokens == sum(timeline["hits"][1])
    assert sum(timeline["hits"][0]) == 0 == sum(timeline["misses"][1])
    assert timeline["hit_rate"] == 0.5 == timeline["running"][0]
    assert timeline["bytes"] == 1000 * tokens == sum(timeline["read"])


def test_a_trace_without_events_has_none():
    assert timeline_of(planted_trace()) is None
