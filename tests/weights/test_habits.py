"""What is learned from recorded routes is what a run that decodes them learns."""

from dataclasses import replace

import numpy as np

from araio.testing.routes import FITTED
from araio.weights.habits import HabitLearner, policy_for
from araio.weights.policies import Forecast
from araio.weights.regression import MOST_EXPERTS, Regression
from araio.weights.simulate import replay


def test_recorded_sequences_teach_what_a_run_would_learn() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 2, 8)).astype(np.float32)
    ids = np.argsort(-scores, axis=2)[:, :, :2].astype(np.int32)
    learner, policy = HabitLearner([3, 5], 8), Regression(16, 8)
    assert learner.wants_scores
    learner.learn(ids, scores, 40)
    for place in (0, 1):
        chosen, tokens = np.unique(ids[:40, place], return_counts=True)
        policy.use(chosen + 8 * place, tokens / 40, scores[:40, place].mean(axis=0))
    for token in range(40, 50):
        for place in (0, 1):
            policy.use(ids[token, place] + 8 * place, 1.0, scores[token, place])
    assert learner.habits is not None
    for name, array in policy.habits().items():
        np.testing.assert_array_equal(learner.habits[name], array)


def test_who_begins_with_habits_misses_less() -> None:
    made = replace(FITTED, layers=4, experts=32, chosen=4).make(900, seed=0)
    known, after = slice(0, 600), slice(600, None)
    learner = HabitLearner(range(4), 32)
    learner.learn(made.routes[known].astype(np.int32), made.scores[known], 0)
    missed = []
    for habits in (None, learner.habits):
        policy = Regression(128, 32)
        if habits is not None:
            policy.adopt(habits)
        missed.append(int(replay(made.routes[after], 32, 64, policy, made.scores[after]).sum()))
    assert missed[1] < 0.97 * missed[0]


def test_prompts_alone_teach_nothing() -> None:
    learner = HabitLearner([1], 8)
    learner.learn(np.zeros((5, 1, 1), np.int32), np.zeros((5, 1, 8), np.float32), 5)
    assert learner.habits is None


def test_layers_of_many_experts_are_kept_by_the_smaller_policy() -> None:
    assert policy_for(MOST_EXPERTS) is Regression
    assert policy_for(MOST_EXPERTS + 1) is Forecast
    learner = HabitLearner([1], 256)
    assert not learner.wants_scores
    learner.learn(np.arange(24, dtype=np.int32).reshape(3, 1, 8), None, 1)
    assert learner.habits is not None
    assert learner.habits["follows"].shape == (1, 256, 256)
