"""`Regression` against least squares solved at once, and what it is for: fewer misses than its yardsticks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from araio.testing.checkpoints import write_tiny_checkpoint
from araio.testing.routes import DOMAINS, FITTED, UNIFORM
from araio.weights import regression
from araio.weights.policies import STAYS, Forecast, Policy, TwoRates, worth_of_chance
from araio.weights.regression import HORIZON, Regression
from araio.weights.simulate import replay

from .streams import streamed

EXPERTS = 6
ALL = np.arange(EXPERTS)


def walk(turns: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Choices (T, 2) and scores (T, E) of a layer."""
    scores = np.random.default_rng(seed).normal(size=(turns, EXPERTS)).astype(np.float32)
    return np.argsort(-scores, axis=1)[:, :2], scores


def play(policy: Policy, chosen: np.ndarray, scores: np.ndarray | None = None, first: int = 0) -> None:
    for turn, row in enumerate(chosen):
        policy.use(first + row, scores=None if scores is None else scores[turn])


def inputs_of(chosen: np.ndarray, scores: np.ndarray) -> np.ndarray:
    is_used = np.zeros((len(chosen), EXPERTS))
    np.put_along_axis(is_used, chosen, 1, axis=1)
    before = np.vstack([np.zeros(EXPERTS), is_used[:-1]])
    centred = scores - scores.mean(axis=1, keepdims=True)
    centred *= np.sqrt(regression.SCORES) / np.linalg.norm(centred, axis=1, keepdims=True)
    return np.hstack([is_used, before, centred, np.ones((len(chosen), 1))])


def test_it_is_ridge_regression_on_what_came_of_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regression, "WANDERS", 0)
    chosen, scores = walk(6 * HORIZON)
    policy, rates = Regression(EXPERTS, EXPERTS), TwoRates(EXPERTS, EXPERTS)
    inputs = inputs_of(chosen, scores)
    guesses, wanted, weights = [], [], np.zeros((inputs.shape[1], EXPERTS))
    for turn, row in enumerate(chosen):
        policy.use(row, scores=scores[turn])
        rates.use(row)
        guesses.append(worth_of_chance(rates.chance(slice(0, EXPERTS))))
        value = guesses[-1] + inputs[turn] @ weights
        assert policy.priorities(ALL) == pytest.approx(value, abs=1e-4)
        if turn % HORIZON < HORIZON - 1 or turn < HORIZON:
            continue
        for learned in range(turn - 2 * HORIZON + 1, turn - HORIZON + 1):
            outcome = value * STAYS ** (turn - learned)
            for later in range(turn, learned, -1):
                outcome[chosen[later]] = STAYS ** (later - learned - 1)
            wanted.append(outcome - guesses[learned])
        known = inputs[: len(wanted)]
        doubt = regression.DOUBT * EXPERTS**2 * np.eye(inputs.shape[1])
        weights = np.linalg.solve(known.T @ known + doubt, known.T @ np.array(wanted))
    assert abs(weights).max() > 0.05


def test_it_learns_from_scores_what_choices_do_not_say() -> None:
    # Two and three are next by a coin that only the scores of the turn before show.
    coin = np.random.default_rng(3).integers(0, 2, 600)
    chosen = np.empty((1200, 1), int)
    chosen[0::2, 0], chosen[1::2, 0] = 0, 2 + coin
    scores = np.zeros((1200, EXPERTS), np.float32)
    scores[0::2, 4] = 2 * coin - 1
    scores[:, 5] = 0.5
    told, untold = Regression(EXPERTS, EXPERTS), Regression(EXPERTS, EXPERTS)
    right = np.zeros(2, int)
    for turn, row in enumerate(chosen):
        told.use(row, scores=scores[turn])
        untold.use(row)
        if turn % 2 == 0 and turn >= 600:
            for place, policy in enumerate((told, untold)):
                worth = policy.priorities(np.array([2, 3]))
                right[place] += worth.argmax() == coin[turn // 2]
    assert right[0] >= 295
    assert right[1] < 220


def test_layers_learn_apart() -> None:
    chosen, scores = walk(5 * HORIZON)
    both, alone = Regression(2 * EXPERTS, EXPERTS), Regression(2 * EXPERTS, EXPERTS)
    for turn, row in enumerate(chosen):
        both.use(EXPERTS + row, scores=scores[turn])
        both.use(row[::-1], scores=-scores[turn])
    play(alone, chosen, scores, first=EXPERTS)
    upper = EXPERTS + ALL
    assert (both.priorities(upper) == alone.priorities(upper)).all()


def test_a_prompt_between_teaches_nothing() -> None:
    chosen, scores = walk(8 * HORIZON)
    policy, without = Regression(EXPERTS, EXPERTS), TwoRates(EXPERTS, EXPERTS)
    for turn, row in enumerate(chosen):
        for each in (policy, without):
            each.use(row, scores=scores[turn])
            if turn % HORIZON == 0:  # before any turn has been learned from
                each.use(ALL, np.full(EXPERTS, 0.1), scores[turn])
    expected = worth_of_chance(without.chance(slice(0, EXPERTS)))
    assert policy.priorities(ALL) == pytest.approx(expected)


def test_scores_that_are_all_alike_and_long_runs_stay_finite() -> None:
    policy = Regression(EXPERTS, EXPERTS)
    alike = np.ones(EXPERTS, np.float32)
    for turn in range(20_000):
        policy.use(np.array([turn % 3]), scores=alike)
    worth = policy.priorities(ALL)
    assert np.isfinite(worth).all()
    assert worth[:3].min() > worth[3:].max()
    spread = policy._layers[0].spread
    assert np.linalg.eigvalsh(spread.astype(np.float64)).min() > 0


def test_scores_that_are_no_numbers_are_as_good_as_none() -> None:
    chosen, scores = walk(5 * HORIZON)
    told, untold = Regression(EXPERTS, EXPERTS), Regression(EXPERTS, EXPERTS)
    play(told, chosen, np.full_like(scores, np.nan))
    play(untold, chosen)
    assert (told.priorities(ALL) == untold.priorities(ALL)).all()


def test_an_interrupt_while_it_learns_costs_only_what_was_not_yet_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    chosen, scores = walk(6 * HORIZON)
    policy = Regression(EXPERTS, EXPERTS)
    with monkeypatch.context() as patched:
        patched.setattr(np.linalg, "cholesky", interrupt)
        with pytest.raises(KeyboardInterrupt):
            play(policy, chosen, scores)
    play(policy, chosen, scores)
    assert np.isfinite(policy.priorities(ALL)).all()
    assert policy._layers[0].weights.any()


def test_what_lasts_is_a_beginning_elsewhere() -> None:
    before, after = Regression(EXPERTS, EXPERTS), Regression(EXPERTS, EXPERTS)
    play(before, np.array([[0, 1], [0, 4], [0, 1]]))
    after.remember(before.lasting())
    worth = after.priorities(ALL)
    assert worth[0] > worth[1] > worth[4] > worth[5] == 0


def test_its_size_is_what_it_says() -> None:
    policy = Regression(3 * 64, 64)
    held = sum(
        array.nbytes
        for layer in policy._layers
        for array in (layer.spread, layer.weights, layer._inputs, layer._guesses)
    )
    assert Regression.bytes(3 * 64, 64) == held


@pytest.mark.parametrize("recipe", [FITTED, DOMAINS, UNIFORM])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_it_is_no_worse_than_a_forecast_where_there_is_little_to_learn(recipe, share: float) -> None:
    made = recipe.make(tokens=1600, seed=9)
    routes = made.routes[:, 3::8]
    scores = made.scores[:, 3::8]
    keys = routes.shape[1] * 64

    def misses(policy: Policy) -> int:
        return int(replay(routes, 64, int(keys * share), policy, scores)[400:].sum())

    assert misses(Regression(keys, 64)) < 1.015 * misses(Forecast(keys, 64))


def test_a_model_tells_it_the_scores_of_the_layer_that_asks(tmp_path: Path) -> None:
    told: list[tuple[np.ndarray, np.ndarray | None]] = []

    class Listening(TwoRates):
        def use(
            self,
            keys: np.ndarray,
            weight: float | np.ndarray = 1.0,
            scores: np.ndarray | None = None,
        ) -> None:
            told.append((keys, scores))
            super().use(keys, weight, scores)

    config = write_tiny_checkpoint(tmp_path / "tiny", "v2-lite")  # whose experts are those of the best scores
    model, _ = streamed(tmp_path / "tiny", 12, policy=Listening)
    cache = model.new_cache()
    for token in (5, 9):
        model.forward(np.array([token]), cache)
    assert len(told) == 2 * len(config.moe_layers)
    for keys, scores in told:
        assert scores is not None
        best = np.argsort(-scores)[: config.num_experts_per_tok]
        assert sorted(keys % config.n_routed_experts) == sorted(best)
