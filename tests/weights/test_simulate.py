"""The simulator against plain loops over every possible decision, on cases small enough for that."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.testing.routes import FITTED
from araio.weights.policies import LRU
from araio.weights.simulate import belady, replay

EXPERTS = 4


@st.composite
def traces(draw: st.DrawFn) -> np.ndarray:
    """(T, L, K) with at most 7 layer steps and 8 keys."""
    tokens, layers = draw(st.sampled_from([(1, 1), (7, 1), (3, 2), (2, 2)]))
    chosen = draw(st.integers(1, 2))
    orders = st.permutations(range(EXPERTS)).map(lambda order: order[:chosen])
    return np.array(draw(st.lists(orders, min_size=tokens * layers, max_size=tokens * layers))).reshape(
        tokens, layers, chosen
    )


def fewest_misses(routes: np.ndarray, capacity: int, start: frozenset[int] = frozenset()) -> int:
    """By trying every set that could stay after every layer."""
    steps = [{layer * EXPERTS + int(e) for e in row} for token in routes for layer, row in enumerate(token)]
    best = {start: 0}
    for needed in steps:
        after: dict[frozenset[int], int] = {}
        for resident, misses in best.items():
            inside = resident | needed
            stay = min(capacity, len(inside))
            for kept in map(frozenset, itertools.combinations(sorted(inside), stay)):
                after[kept] = min(after.get(kept, 10**9), misses + len(needed - resident))
        best = after
    return min(best.values())


@given(traces(), st.integers(0, 5))
def test_belady_misses_as_few_as_any_sequence_of_decisions(routes: np.ndarray, capacity: int) -> None:
    assert belady(routes, EXPERTS, capacity).sum() == fewest_misses(routes, capacity)


@given(traces(), st.integers(0, 5), st.data())
def test_what_is_there_before_the_first_token_need_not_be_read(
    routes: np.ndarray, capacity: int, data: st.DataObject
) -> None:
    keys = range(routes.shape[1] * EXPERTS)
    start = frozenset(data.draw(st.lists(st.sampled_from(keys), max_size=capacity, unique=True)))
    assert belady(routes, EXPERTS, capacity, start).sum() == fewest_misses(routes, capacity, start)


class Calls:
    """Worth is the order of use, the first of a call above the others."""

    def __init__(self) -> None:
        self.worth = dict.fromkeys(range(2 * EXPERTS), -1.0)
        self.clock = 0.0

    def use(self, keys: np.ndarray, weight: float = 1.0, scores: np.ndarray | None = None) -> None:
        for key in reversed(keys.tolist()):
            self.clock += 1
            self.worth[key] = self.clock

    def priorities(self, keys: np.ndarray) -> np.ndarray:
        return np.array([self.worth[key] for key in keys.tolist()])


@given(traces(), st.integers(0, 5))
def test_replay_agrees_with_a_plain_loop(routes: np.ndarray, capacity: int) -> None:
    tokens, layers, chosen = routes.shape
    order: list[int] = []  # resident, the next to leave first
    expected = np.zeros((tokens, layers), int)
    for token, layer in np.ndindex(tokens, layers):
        needed = (layer * EXPERTS + routes[token, layer]).tolist()
        expected[token, layer] = sum(key not in order for key in needed)
        order = [key for key in order if key not in needed] + needed[::-1]
        order = order[max(0, len(order) - capacity) :]
    policy = Calls()
    assert (replay(routes, EXPERTS, capacity, policy) == expected).all()
    assert policy.clock == tokens * layers * chosen


def test_what_was_just_read_may_leave_at_once() -> None:
    routes = np.array([0, 1, 2, 3, 0, 1])[:, None, None]
    assert belady(routes, EXPERTS, 2).ravel().tolist() == [1, 1, 1, 1, 0, 0]
    assert replay(routes, EXPERTS, 2, LRU(EXPERTS)).ravel().tolist() == [1] * 6


@pytest.mark.parametrize("capacity", [0, 1, 100, 26 * 64])
def test_no_policy_beats_belady_and_more_memory_never_hurts_it(capacity: int) -> None:
    routes = FITTED.make(tokens=60, seed=0).routes
    best = belady(routes, 64, capacity).sum()
    assert best <= replay(routes, 64, capacity, LRU(26 * 64)).sum() <= routes.size
    assert belady(routes, 64, capacity + 26).sum() <= best
    distinct = sum(len(np.unique(layer)) for layer in routes.swapaxes(0, 1))
    assert best >= distinct
    assert (best == routes.size) == (capacity == 0)
    assert (best == distinct) == (capacity == 26 * 64)
