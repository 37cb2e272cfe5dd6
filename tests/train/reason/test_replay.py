"""Routing replay: nothing changes while choices agree; where they drift, the recorded experts compute."""

from random import Random

import pytest
import torch

from araio.kernels.select import select
from araio.train.reason.handover import engine_model
from araio.train.reason.rollout import Rollouts

from .test_rollout import MOST, measured


@pytest.fixture
def groups(model, problems, encoder, meter):
    rollouts = Rollouts(engine_model(model, select().ops), MOST, [encoder.eos], meter)
    return rollouts.sample(problems.draw(Random(1), 2), 3, Random(2))


def gradients(model):
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def test_on_policy_replay_changes_nothing(model, groups, encoder):
    free = measured(model, groups, encoder)
    expected = gradients(model)
    replayed = measured(model, groups, encoder, replays=True)
    assert replayed.difference == free.difference
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=0)


def test_when_choices_drift_replay_keeps_the_function_and_the_router_s_gradient(model, groups, encoder):
    """The bias moves choices and never weights: with the recorded experts nothing has changed."""
    router = model.routers()[0]
    router.e_score_correction_bias += torch.linspace(-1, 1, len(router.e_score_correction_bias))
    free = measured(model, groups, encoder)
    assert free.agreement.share < 0.9
    assert free.largest_difference > 1e-2
    model.zero_grad(set_to_none=True)
    replayed = measured(model, groups, encoder, replays=True)
    assert replayed.largest_difference < 2e-5
    assert replayed.agreement.share == free.agreement.share, "what the router would have chosen is still told"
    assert gradients(model)["model.layers.1.mlp.gate.weight"].abs().sum() > 0


def test_replayed_weights_are_those_of_the_current_scores(model, groups, encoder):
    with torch.no_grad():
        model.routers()[0].weight.mul_(1.5)
    replayed = measured(model, groups, encoder, replays=True)
    assert replayed.largest_difference > 1e-3, "the gate has changed, though the experts have not"


def test_hooks_are_gone_afterwards(model, groups, encoder):
    measured(model, groups, encoder, replays=True)
    assert all(router.on_choice is None for router in model.routers())
