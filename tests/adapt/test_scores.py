"""Scores of experts, by hand for two layers of four."""

import numpy as np
import pytest

from araio.adapt.scores import SCORES, mixture, opening_experts, score, super_experts
from araio.adapt.statistics import SUMS, ExpertStatistics
from araio.errors import ProfileError


def statistics(sequences=4, **sums):
    arrays = {name: np.zeros((2, 4)) for name in SUMS} | {
        name: np.array(rows, float) for name, rows in sums.items()
    }
    return ExpertStatistics((1, 2), sequences, 100, **arrays)


SEEN = statistics(
    chosen=[[8, 2, 0, 0], [5, 5, 5, 5]],
    gate=[[4, 1, 0, 0], [1, 2, 3, 4]],
    norm=[[8, 6, 0, 0], [5, 5, 10, 0]],
    gated=[[4, 3, 0, 0], [5, 5, 5, 5]],
    turned=[[1, 3, 0, 0], [0, 0, 0, 0]],
)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("easy", [0.25, 0.75, 0, 0], [0.25, 0.25, 0.25, 0.25]),
        ("reap", [0.25, 0.75, 0, 0], [0.25, 0.25, 0.25, 0.25]),
        ("norm", [0.25, 0.75, 0, 0], [0.25, 0.25, 0.5, 0]),
        ("frequency", [0.8, 0.2, 0, 0], [0.25, 0.25, 0.25, 0.25]),
        ("gate", [0.8, 0.2, 0, 0], [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_scores_are_shares_of_their_layer(name, first, second):
    np.testing.assert_allclose(score(SEEN, name), [first, second])


def test_every_score_is_tested_and_another_is_refused():
    assert SCORES == ("easy", "reap", "norm", "frequency", "gate")
    with pytest.raises(ProfileError, match="no score 'entropy'; expected one of easy, reap"):
        score(SEEN, "entropy")


def test_domains_count_alike_in_a_mixture_unless_their_shares_are_given():
    one, other = np.array([[1.0, 0, 0, 0]]), np.array([[0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(mixture([one, other]), [[0.5, 0, 0.25, 0.25]])
    np.testing.assert_allclose(mixture([one, other], [3, 1]), [[0.75, 0, 0.125, 0.125]])


def test_super_experts_stand_out_and_lie_early():
    largest = np.ones((8, 100))
    largest[2, 7], largest[3, 9], largest[7, 1] = 900, 50, 1000
    found = super_experts(ExpertStatistics(tuple(range(8)), 1, 1, **(dict.fromkeys(SUMS, largest))))
    # 50 is no tenth of the largest, and layer 7 is among the last quarter.
    assert np.argwhere(found).tolist() == [[2, 7]]


def test_where_all_are_alike_none_is_super():
    assert not super_experts(statistics(largest=np.ones((2, 4)))).any()


def test_experts_of_the_opening_are_those_that_half_of_the_sequences_used():
    found = opening_experts(statistics(opening=[[4, 2, 1, 0], [0, 0, 0, 8]]))
    assert found.tolist() == [[True, True, False, False], [False, False, False, True]]
    assert not opening_experts(statistics(sequences=0)).any()
