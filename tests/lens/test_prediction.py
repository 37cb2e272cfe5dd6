"""How well the experts of a layer can be told from those before."""

import numpy as np
import pytest

from araio.lens.prediction import GUESSES, prediction
from araio.lens.routes import Routes
from araio.testing.routes import FITTED, UNIFORM


def test_published_recall_of_the_fitted_recipe() -> None:
    """From one layer 0.626 of six guesses and 0.851 of twelve were published: docs/metrics.md."""
    made = FITTED.make(tokens=6000, seed=1).routes[:, 8:14]
    found = prediction(Routes.from_arrays(made, 64, seq=np.arange(6000) // 250))
    assert found.guessed.tolist() == [6, 12]
    assert found.recall["one layer"].mean(0) == pytest.approx([0.626, 0.851], abs=0.04)
    means = [found.recall[guess][2:].mean(0)[0] for guess in GUESSES]
    assert means == sorted(means)
    assert means[0] < means[1] - 0.05 < means[2] - 0.2 < means[3] - 0.25


def test_of_uniform_routes_nothing_is_known() -> None:
    made = UNIFORM.make(tokens=4000, seed=1).routes[:, :4]
    found = prediction(Routes.from_arrays(made, 64, seq=np.arange(4000) // 200))
    for guess in GUESSES:
        assert found.recall[guess].mean(0) == pytest.approx([6 / 64, 12 / 64], abs=0.01), guess


def _copied(domains: int = 2) -> Routes:
    """Every layer takes the expert of the one before, plus the domain, mod 8."""
    random = np.random.default_rng(1)
    seq = np.repeat(np.arange(20), 30)
    domain = seq // 2 % domains
    first = random.integers(0, 8, len(seq))
    ids = np.stack([(first + layer * (domain + 1)) % 8 for layer in range(3)], axis=1)
    return Routes.from_arrays(ids[:, :, None], 8, seq=seq, domain=domain)


def test_a_rule_is_learned_and_holds_only_where_it_was_learned() -> None:
    found = prediction(_copied(), guessed=(1, 2))
    # Two domains, two rules: one guess of two is right, two guesses name both.
    assert found.recall["one layer"][:, 0] == pytest.approx([0.5, 0.5], abs=0.1)
    assert found.recall["one layer"][:, 1].tolist() == [1.0, 1.0]
    assert found.within["one layer"].shape == (2, 2)
    assert found.foreign["one layer"][:, 0] == pytest.approx([0, 0], abs=0.05)
    one = prediction(_copied(domains=1), guessed=(1,))
    assert one.recall["one layer"].tolist() == [[1.0], [1.0]]
    assert np.isnan(one.foreign["one layer"]).all()


def test_experts_that_were_never_seen_are_not_all_guessed_at_once() -> None:
    """Learned from experts 0 to 3, tried on 4 to 7: the fifth guess is one of these, whatever ties them."""
    seq = np.repeat(np.arange(8), 40)
    ids = np.arange(320) % 4 + 4 * (seq % 2)
    found = prediction(
        Routes.from_arrays(np.repeat(ids[:, None, None], 2, axis=1), 8, seq=seq), guessed=(4, 5)
    )
    for guess in ("most used", "one layer", "three layers"):
        assert found.recall[guess].tolist() == [[0.0, 0.25]], guess


def test_the_token_before_is_that_of_the_same_sequence() -> None:
    """Each sequence has its own expert: the token before knows it, but for the first of a sequence."""
    seq = np.repeat(np.arange(16), 10)
    ids = np.repeat((seq // 2 % 4)[:, None, None], 2, axis=1)
    found = prediction(Routes.from_arrays(ids, 4, seq=seq), guessed=(1,))
    assert found.recall["previous token"][0, 0] == pytest.approx(0.9 + 0.1 * 0.25)


def test_a_single_sequence_and_a_single_layer_have_nothing_to_try() -> None:
    one = prediction(Routes.from_arrays(np.zeros((9, 2, 1), int), 3))
    assert np.isnan(one.recall["one layer"]).all()
    flat = prediction(Routes.from_arrays(np.zeros((9, 1, 1), int), 3, seq=np.arange(9)))
    assert flat.recall["one layer"].shape == (0, 2)
    assert prediction(Routes.from_arrays(np.zeros((9, 2, 2), int), 3)).guessed.tolist() == [2]
