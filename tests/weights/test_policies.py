"""Policies against their formulas, and what they are for: memory in the order in which it is missed least."""

import numpy as np
import pytest

from araio.testing.routes import DOMAINS, FITTED
from araio.weights.policies import LRU, Policy, TwoRates
from araio.weights.simulate import replay

ALL = np.arange(6)


def play(policy: Policy, tokens: list[list[int]], weight: float = 1.0) -> None:
    for keys in tokens:
        if keys:
            policy.use(np.array(keys), weight)
        policy.step()


def test_lru_ranks_by_last_use_and_never_used_below_all() -> None:
    policy = LRU(6)
    play(policy, [[3, 1], [2], [], [1]])
    worth = policy.priorities(ALL)
    assert worth[1] > worth[2] > worth[3] > worth[0] == worth[5]


def test_of_two_layers_of_one_token_the_later_is_more_recent_for_lru() -> None:
    policy = LRU(6)
    policy.use(np.array([4]))
    policy.use(np.array([1]))
    assert policy.priorities(np.array([1])) > policy.priorities(np.array([4]))


def test_two_rates_is_its_formula() -> None:
    uses = np.random.default_rng(0).random((40, 6)) < 0.3
    policy = TwoRates(6, half_life=10, recent=3)
    for row in uses:
        policy.use(np.flatnonzero(row), weight=0.5)
        policy.step()
    age = 40 - np.arange(40)
    expected = 0.5 * (2 ** (-age / 10) + 3 * 2.0**-age) @ uses
    assert policy.priorities(ALL) == pytest.approx(expected)
    assert policy.priorities(np.array([4, 2])) == pytest.approx(expected[[4, 2]])


def test_what_was_just_used_outranks_what_was_often_used_only_for_a_moment() -> None:
    policy = TwoRates(6)
    play(policy, [[0]] * 10 + [[]] * 8)
    play(policy, [[1]])
    often, recent = policy.priorities(np.array([0, 1]))
    assert recent > often
    play(policy, [[]] * 3)
    often, recent = policy.priorities(np.array([0, 1]))
    assert often > recent


def test_a_prompt_displaces_nothing_that_decoding_uses() -> None:
    policy = TwoRates(6)
    play(policy, [[0], [1]])
    play(policy, [[2, 3, 4, 5]] * 4, weight=0.001)
    worth = policy.priorities(ALL)
    assert worth[:2].min() > worth[2:].max()
    assert worth[2:].min() > 0


def test_ages_of_years_neither_overflow_nor_warn() -> None:
    policy = TwoRates(6)
    play(policy, [[0], [1, 0]])
    play(policy, [[]] * 200_000)
    play(policy, [[2]])
    assert np.isfinite(policy.priorities(ALL)).all()
    assert policy.priorities(ALL).argmax() == 2


def test_a_restored_state_goes_on_with_the_share_that_it_is_given() -> None:
    before, after = TwoRates(6), TwoRates(6)
    play(before, [[0, 1], [0], [0, 2]])
    state = before.state()
    play(before, [[5]])
    after.restore(state, share=0.5)
    assert after.priorities(ALL) == pytest.approx(0.5 * state["long"])
    assert state["long"][0] > state["long"][2] > state["long"][1] > state["long"][5] == 0
    with pytest.raises(ValueError, match="for 7 keys"):
        TwoRates(7).restore(state)


@pytest.mark.parametrize("recipe", [FITTED, DOMAINS])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_default_misses_less_than_lru_and_than_one_rate(recipe, share: float) -> None:
    routes = recipe.make(tokens=2000, seed=9).routes[:, 3::5]
    keys = routes.shape[1] * 64

    def misses(policy: Policy) -> int:
        return int(replay(routes, 64, int(keys * share), policy)[400:].sum())

    default = misses(TwoRates(keys))
    assert default < 0.98 * misses(LRU(keys))
    assert default < 0.98 * misses(TwoRates(keys, recent=0))
