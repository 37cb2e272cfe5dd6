"""The update: what the MTP module's own loss moves, and that packing changes nothing."""

from copy import deepcopy
from random import Random

import pytest
import torch

from araio.kernels.select import select
from araio.train.reason.batch import Scored, pack
from araio.train.reason.handover import engine_model
from araio.train.reason.objectives import OBJECTIVES
from araio.train.reason.rollout import Rollouts
from araio.train.reason.update import Measures, PolicyUpdate

MOST = 16


@pytest.fixture
def scored(model, problems, encoder, meter):
    rollouts = Rollouts(engine_model(model, select().ops), MOST, [encoder.eos], meter)
    groups = rollouts.sample(problems.draw(Random(1), 2), 3, Random(2))
    return [
        Scored(group.problem.prompt, answer, 1.0 - index)
        for group in groups
        for index, answer in enumerate(group.answers)
    ]


def gradient(model, scored, encoder, rows, **options):
    model.zero_grad(set_to_none=True)
    updater = PolicyUpdate(model, OBJECTIVES["grpo"], MOST, **options)
    updater.accumulate(scored, pack(scored, rows, 400, encoder.pad), Measures())
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def test_packing_changes_no_gradient(model, scored, encoder):
    together = gradient(model, scored, encoder, rows=8)
    apart = gradient(model, scored, encoder, rows=1)
    assert together.keys() == apart.keys()
    for name in together:
        torch.testing.assert_close(together[name], apart[name], rtol=1e-3, atol=1e-6)


def test_the_mtp_module_learns_by_itself_and_moves_nothing_else(model, scored, encoder):
    without = gradient(model, scored, encoder, rows=8)
    beside = gradient(model, scored, encoder, rows=8, mtp_weight=0.5)
    module = "model.layers.2."
    assert not any(name.startswith(module) for name in without)
    assert f"{module}eh_proj.weight" in beside
    for name, tensor in without.items():
        torch.testing.assert_close(beside[name], tensor, rtol=0, atol=0)


def test_the_gradient_is_that_of_reinforce(model, scored, encoder):
    found = gradient(model, scored, encoder, rows=8)["lm_head.weight"]
    model.zero_grad(set_to_none=True)
    total = 0.0
    for one in scored:
        ids = torch.tensor([[*one.prompt, *one.answer.ids]])
        logprobs = model.logits(ids)[0].log_softmax(-1)
        first = len(one.prompt)
        drawn = logprobs[first - 1 : -1].gather(-1, ids[0, first:, None])
        total = total - one.advantage * drawn.mean() / len(scored)
    total.backward()
    torch.testing.assert_close(found, model.lm_head.weight.grad, rtol=1e-3, atol=1e-6)


def test_the_divergence_from_a_reference_pulls_back(model, scored, encoder):
    reference = deepcopy(model)
    with torch.no_grad():
        reference.lm_head.weight.mul_(0.9)
    even = [Scored(one.prompt, one.answer, 0.0) for one in scored]
    found = gradient(model, even, encoder, rows=8, reference=reference, kl_weight=1.0)
    assert found["lm_head.weight"].abs().sum() > 0
    same = gradient(model, even, encoder, rows=8, reference=deepcopy(model), kl_weight=1.0)
    assert same["lm_head.weight"].abs().max() < 1e-6
