"""The benchmark of caches on few tokens: `pocket` recorded, every policy above the optimum, its table."""

from argparse import Namespace

import cache
import pytest


@pytest.fixture(scope="module")
def report() -> dict:
    asked = Namespace(routes=["pocket-chain", "uniform"], tokens=120, shares=[0.25, 1.0], seed=1)
    return cache.compare(asked)


def test_no_policy_reads_less_than_the_optimum_and_with_room_for_all_none_reads_more(report) -> None:
    assert [(row["kind"], row["share"]) for row in report["rows"]] == [
        (kind, share) for kind in ("pocket-chain", "uniform") for share in (0.25, 1.0)
    ]
    for row in report["rows"]:
        reads = row["reads"]
        assert set(reads) == {*cache.POLICIES, "belady"}
        assert min(reads.values()) == reads["belady"]
        if row["share"] == 1:
            assert len(set(reads.values())) == 1


def test_pocket_is_recorded_one_row_a_token_and_again_the_same() -> None:
    routes, scores = cache.record("story", 30, seed=3)
    assert routes.shape == (30, 5, 4)
    assert scores.shape == (30, 5, 32)
    assert 0 <= routes.min() <= routes.max() < 32
    # The best score is chosen but where the router's bias or its groups speak against it.
    assert (scores.argmax(axis=2)[..., None] == routes).any(axis=2).mean() > 0.5
    assert (cache.record("story", 30, seed=3)[0] == routes).all()


def test_the_report_as_text(report) -> None:
    text = cache.text(report)
    assert "26 x 6 of 64" in text
    assert "5 x 4 of 32" in text
    assert text.count("25.0%") == 2
