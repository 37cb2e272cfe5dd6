"""Policies against their formulas, and what they are for: memory in the order in which it is missed least."""

from dataclasses import replace

import numpy as np
import pytest

from araio.testing.routes import DOMAINS, FITTED
from araio.weights import policies
from araio.weights.policies import LRU, Forecast, Policy, TwoRates, uses_of
from araio.weights.regression import Regression
from araio.weights.simulate import replay

EXPERTS = 6
ALL = np.arange(EXPERTS)


def play(policy: Policy, turns: list[list[int]], weight: float = 1.0) -> None:
    for keys in turns:
        policy.use(np.array(keys), weight)


def test_lru_ranks_by_last_use_and_never_used_below_all() -> None:
    policy = LRU(EXPERTS)
    play(policy, [[3, 1], [2], [1]])
    worth = policy.priorities(ALL)
    assert worth[1] > worth[2] > worth[3] > worth[0] == worth[5]


def test_two_rates_is_its_formula() -> None:
    uses = np.random.default_rng(0).random((40, EXPERTS)) < 0.4
    uses[:, 0] |= ~uses.any(axis=1)
    policy = TwoRates(EXPERTS, EXPERTS, half_life=10, recent=3)
    for row in uses:
        policy.use(np.flatnonzero(row), weight=0.5)
    age = 39 - np.arange(40)
    expected = 0.5 * (2 ** (-age / 10) + 3 * 2.0**-age) @ uses
    assert policy.priorities(ALL) == pytest.approx(expected)
    assert policy.priorities(np.array([4, 2])) == pytest.approx(expected[[4, 2]])


def test_a_key_ages_by_the_turns_of_its_own_layer() -> None:
    policy = TwoRates(2 * EXPERTS, EXPERTS)
    play(policy, [[1], [7]])
    worth = policy.priorities(np.array([1, 7]))
    assert worth[0] == worth[1]
    play(policy, [[0]])
    one, seven = policy.priorities(np.array([1, 7]))
    assert one < seven == worth[1]


def test_what_was_just_used_outranks_what_was_often_used_only_for_a_moment() -> None:
    policy = TwoRates(EXPERTS, EXPERTS)
    play(policy, [[0]] * 12 + [[5]] * 8 + [[1]])
    often, recent = policy.priorities(np.array([0, 1]))
    assert recent > often
    play(policy, [[5]] * 4)
    often, recent = policy.priorities(np.array([0, 1]))
    assert often > recent


@pytest.mark.parametrize("policy", [TwoRates(EXPERTS, EXPERTS), Forecast(EXPERTS, EXPERTS)])
def test_a_prompt_displaces_nothing_that_decoding_uses(policy: Policy) -> None:
    play(policy, [[0], [1]])
    play(policy, [[2, 3, 4, 5]] * 4, weight=0.001)
    worth = policy.priorities(ALL)
    assert worth[:2].min() > worth[2:].max()
    assert worth[2:].min() > 0


@pytest.mark.parametrize("policy", [TwoRates(EXPERTS, EXPERTS), Forecast(EXPERTS, EXPERTS)])
def test_long_runs_neither_overflow_nor_warn(policy: Policy) -> None:
    play(policy, [[0, 1], [1, 2]])
    play(policy, [[3]] * 3000)
    assert np.isfinite(policy.priorities(ALL)).all()
    assert policy.priorities(ALL).argmax() == 3


def test_the_chance_of_what_is_always_used_is_one() -> None:
    policy = TwoRates(EXPERTS, EXPERTS)
    play(policy, [[2]] * 4000)
    assert policy.chance(slice(2, 3)) == pytest.approx(1)
    assert policy.chance(slice(0, 2)).tolist() == [0, 0]


def test_a_forecast_is_its_formula() -> None:
    turns = [sorted(row) for row in np.random.default_rng(1).permuted([ALL] * 30, axis=1)[:, :2].tolist()]
    policy, rates = Forecast(EXPERTS, EXPERTS), TwoRates(EXPERTS, EXPERTS)
    follows = np.zeros((EXPERTS, EXPERTS))
    value = np.zeros(EXPERTS)
    for turn, keys in enumerate(turns):
        play(policy, [keys])
        play(rates, [keys])
        states = [turns[t] if t >= 0 else [] for t in (turn, turn - 1, turn - 2)]
        mixtures = [np.bincount(state, minlength=EXPERTS) / 2 for state in states]
        chance = rates.chance(slice(0, EXPERTS))
        later = chance / (1 - policies.STAYS * (1 - chance))
        later += (mixtures[0] + policies.TRACE * mixtures[1]) @ follows
        target = np.where(mixtures[0] > 0, 1, policies.STAYS * later)
        seen = mixtures[1] * 2 + policies.TRACE * mixtures[2] * 2
        follows += policies.LEARNING_RATE * np.outer(seen, target - value)
        value = later
        assert policy.priorities(ALL) == pytest.approx(value, rel=1e-5)


def test_a_forecast_learns_what_follows_on_what() -> None:
    policy = Forecast(EXPERTS, EXPERTS)
    play(policy, [[0], [1], [2], [3]] * 100)
    # All four are as frequent, and the most recent comes last: only what follows tells 0 from 1 and 2.
    worth = policy.priorities(np.arange(4))
    assert worth[0] > worth[1] > worth[2]
    rates = TwoRates(EXPERTS, EXPERTS)
    play(rates, [[0], [1], [2], [3]] * 100)
    assert rates.priorities(ALL).argsort()[-2:].tolist() == [2, 3]


def test_layers_learn_apart() -> None:
    both, alone = Forecast(2 * EXPERTS, EXPERTS), Forecast(2 * EXPERTS, EXPERTS)
    play(both, [[6, 7], [0], [8, 9], [1]] * 9)
    play(alone, [[6, 7], [8, 9]] * 9)
    upper = np.arange(EXPERTS, 2 * EXPERTS)
    assert (both.priorities(upper) == alone.priorities(upper)).all()


@pytest.mark.parametrize("policy_of", [TwoRates, Forecast])
def test_what_lasts_is_a_beginning_elsewhere(policy_of: type[TwoRates] | type[Forecast]) -> None:
    before, after = policy_of(EXPERTS, EXPERTS), policy_of(EXPERTS, EXPERTS)
    play(before, [[0, 1], [0], [0, 2]])
    lasting = before.lasting()
    play(before, [[5]])
    assert lasting[5] == 0
    after.remember(lasting)
    worth = after.priorities(ALL)
    assert worth[0] > worth[2] > worth[1] > worth[5] == 0


@pytest.mark.parametrize("recipe", [FITTED, DOMAINS])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_default_misses_less_than_its_yardsticks(recipe, share: float) -> None:
    routes = recipe.make(tokens=1600, seed=9).routes[:, 3::8]
    keys = routes.shape[1] * 64

    def misses(policy: Policy) -> int:
        return int(replay(routes, 64, int(keys * share), policy)[400:].sum())

    rates, one_rate = TwoRates(keys, 64), TwoRates(keys, 64, recent=0)
    yardstick = min(misses(LRU(keys)), misses(one_rate))
    assert misses(rates) < 0.97 * yardstick
    assert misses(Forecast(keys, 64)) < min(0.97 * yardstick, 1.01 * misses(rates))


@pytest.mark.parametrize("kind", [TwoRates, Forecast, Regression])
def test_habits_go_on_elsewhere(kind: type[TwoRates] | type[Forecast] | type[Regression]) -> None:
    made = replace(FITTED, layers=2, experts=16, chosen=4).make(60, seed=0)
    routes, scores = made.routes.astype(np.int64), made.scores
    first, second = kind(32, 16), kind(3 * 16, 16)  # the other has a layer more, which knows nothing
    play_routes(first, routes[:40], scores[:40])
    second.adopt(first.habits())
    for name, array in second.habits().items():
        np.testing.assert_array_equal(array[:2], first.habits()[name])
    assert (second.lasting()[:32] == first.lasting().astype(np.float32)).all()
    assert not second.lasting()[32:].any()
    # What was just used aside, the other ranks as the first does, once both have seen the same.
    play_routes(first, routes[40:], scores[40:])
    play_routes(second, routes[40:], scores[40:])
    ranked = np.corrcoef(first.priorities(np.arange(32)), second.priorities(np.arange(32)))
    assert ranked[0, 1] > 0.8


def play_routes(policy: Policy, routes: np.ndarray, scores: np.ndarray) -> None:
    for token, place in np.ndindex(*routes.shape[:2]):
        policy.use(np.sort(routes[token, place]) + place * 16, 1.0, scores[token, place])


@pytest.mark.parametrize(
    ("habits", "message"),
    [
        ({}, r"has \[\]; expected \['follows', 'rates'\]"),
        ({"rates": np.zeros((1, 6)), "follows": np.zeros((1, 6, 5))}, r"follows is \[1, 6, 5\]"),
        (
            {"rates": np.zeros((2, 6)), "follows": np.zeros((1, 6, 6))},
            r"rates is \[2, 6\]; expected \[1, 6\]",
        ),
    ],
)
def test_habits_of_others_are_refused(habits: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Forecast(EXPERTS, EXPERTS).adopt(habits)


def test_a_step_counts_by_its_tokens() -> None:
    one, few, prompt = np.array([[3, 1]]), np.array([[3, 1], [1, 2]]), np.array([[1, 2]] * 30 + [[1, 3]] * 10)
    assert [uses_of(ids)[0].tolist() for ids in (one, few, prompt)] == [[3, 1], [1, 2, 3], [1, 2, 3]]
    assert uses_of(one)[1] == uses_of(few)[1] == 1.0
    assert uses_of(prompt)[1] == pytest.approx([1.0, 0.75, 0.25])
