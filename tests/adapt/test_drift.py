"""How far kept experts are from the whole model, against both models' logits at once."""

from dataclasses import replace

import numpy as np
import pytest

from araio.adapt.answers import ask
from araio.adapt.calibration import calibrate
from araio.adapt.drift import drift
from araio.adapt.fit import fit
from araio.adapt.select import Target
from araio.eval.prompts import read_prompts
from araio.nn.mask import ExpertMask


@pytest.fixture(scope="module")
def asked(pocket):
    return ask(pocket, read_prompts(["task:chain"], n=4), temperature=0, max_tokens=100)


@pytest.fixture(scope="module")
def calibration(pocket):
    return calibrate(pocket, read_prompts(["task:chain"], n=4), max_tokens=100)


def profile(calibration, config, keep):
    return fit(calibration, config, Target(keep=keep), name="some").profile


def naive(model, profile, one):
    """KL, agreement and both losses at the positions whose next token was generated."""
    network, ids = model.network, one.ids
    whole = network.logits(network.forward(ids[:-1], network.new_cache())).astype(float)
    kept = network.logits(network.forward(ids[:-1], network.new_cache(), mask=ExpertMask(profile))).astype(
        float
    )
    rows = slice(one.prompt_tokens - 1, None)
    p, q = (np.exp(x - x.max(1, keepdims=True)) for x in (whole[rows], kept[rows]))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    following = ids[one.prompt_tokens :]
    places = np.arange(len(following))
    return (
        (p * np.log(p / q)).sum(1),
        p.argmax(1) == q.argmax(1),
        -np.log(q[places, following]),
        -np.log(p[places, following]),
    )


def test_the_distance_is_that_of_both_models_logits(pocket, calibration, asked, monkeypatch):
    half = profile(calibration, pocket.config, 0.5)
    # Pieces that cut prompts and answers anywhere.
    monkeypatch.setattr("araio.api.model.PREFILL_CHUNK", 11)
    found = drift(pocket, half, asked)
    kl, agrees, loss, whole_loss = map(
        np.concatenate, zip(*(naive(pocket, half, one) for one in asked), strict=True)
    )
    assert found.tokens == len(kl) == sum(len(one.ids) - one.prompt_tokens for one in asked)
    assert found.kl_mean == pytest.approx(kl.mean(), rel=1e-2, abs=1e-5)
    assert found.kl_p95 == pytest.approx(np.quantile(kl, 0.95), rel=1e-2, abs=1e-5)
    assert found.kl_p99 == pytest.approx(np.quantile(kl, 0.99), rel=1e-2, abs=1e-5)
    assert found.top1_agreement == agrees.mean()
    assert found.perplexity == pytest.approx(np.exp(loss.mean()), rel=1e-3)
    assert found.whole_perplexity == pytest.approx(np.exp(whole_loss.mean()), rel=1e-3)


def test_a_profile_that_keeps_all_changes_nothing(pocket, calibration, asked):
    everything = profile(calibration, pocket.config, 1.0)
    found = drift(pocket, everything, asked)
    assert (found.kl_mean, found.top1_agreement) == (0.0, 1.0)
    assert found.perplexity == found.whole_perplexity


def test_fewer_experts_are_farther_away(pocket, calibration, asked):
    distances = [
        drift(pocket, profile(calibration, pocket.config, keep), asked).kl_mean for keep in (0.75, 0.25)
    ]
    assert 0 < distances[0] < distances[1]


def test_experts_of_nobody_are_farther_than_those_of_the_domain(pocket, calibration, asked):
    fitted = profile(calibration, pocket.config, 0.5)
    others = {
        layer: tuple(np.setdiff1d(np.arange(pocket.config.n_routed_experts), kept))
        for layer, kept in fitted.keep.items()
    }
    opposite = replace(fitted, keep=others)
    assert drift(pocket, fitted, asked).kl_mean < drift(pocket, opposite, asked).kl_mean


def test_each_sequence_is_told(pocket, calibration, asked):
    told = []
    drift(pocket, profile(calibration, pocket.config, 0.5), asked, lambda: told.append(1))
    assert len(told) == len(asked)
