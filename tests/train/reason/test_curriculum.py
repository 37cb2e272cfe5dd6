"""The curriculum: which levels are asked, and that a log tells it all."""

from random import Random

from araio.train.reason.curriculum import Curriculum, tallies_of


def rate_of_asking(curriculum, level):
    rng = Random(1)
    return sum(curriculum.accepts(level, rng) for _ in range(2000)) / 2000


def test_levels_within_the_band_are_always_asked_and_others_seldom():
    curriculum = Curriculum((0.1, 0.9), other_share=0.2)
    curriculum.observe({"half": [16, 32], "easy": [31, 32], "hard": [1, 32], "new": [0, 8]})
    assert rate_of_asking(curriculum, "half") == 1
    assert 0.15 < rate_of_asking(curriculum, "easy") < 0.25
    assert 0.15 < rate_of_asking(curriculum, "hard") < 0.25
    assert rate_of_asking(curriculum, "new") == 1, "too few answers to say"
    assert rate_of_asking(curriculum, "never seen") == 1


def test_what_was_long_ago_counts_less():
    curriculum = Curriculum((0.1, 0.9), other_share=0.0)
    curriculum.observe({"level": [0, 100]})
    assert curriculum.pass_rate("level") == 0
    for _ in range(10):
        curriculum.observe({"level": [50, 100]})
    assert 0.4 < curriculum.pass_rate("level") < 0.5


def test_answers_are_counted_by_level():
    assert tallies_of([("b", True), ("a", False), ("b", False)]) == {"a": [0, 1], "b": [1, 2]}
