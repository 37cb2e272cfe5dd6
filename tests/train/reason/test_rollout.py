"""Answers from the engine: of the trainer's own weights and distribution, and the same each time."""

from random import Random

import numpy as np
import pytest
import torch

from araio.errors import TrainingError
from araio.kernels.ops import PAGE
from araio.kernels.select import select
from araio.train.reason.batch import Scored, pack
from araio.train.reason.handover import engine_model
from araio.train.reason.objectives import OBJECTIVES
from araio.train.reason.problems import Problem
from araio.train.reason.rollout import Rollouts
from araio.train.reason.update import Measures, PolicyUpdate
from araio.train.tasks import TASKS

MOST = 24


@pytest.fixture
def rollouts(model, ops, encoder, meter):
    return Rollouts(engine_model(model, ops), MOST, [encoder.eos], meter)


def measured(model, groups, encoder, **options):
    """What a pass over all answers finds, gradients included."""
    scored = [
        Scored(group.problem.prompt, answer, float(index % 2) - 0.5)
        for group in groups
        for index, answer in enumerate(group.answers)
    ]
    measures = Measures()
    updater = PolicyUpdate(model, OBJECTIVES["dapo"], MOST, **options)
    updater.accumulate(scored, pack(scored, 3, 400, encoder.pad), measures)
    return measures


def test_trainer_and_engine_agree_to_rounding(model, rollouts, problems, encoder):
    groups = rollouts.sample(problems.draw(Random(1), 3), 4, Random(2))
    measures = measured(model, groups, encoder)
    assert measures.tokens == sum(len(answer.ids) for group in groups for answer in group.answers)
    assert measures.largest_difference < 2e-5
    assert measures.agreement.share == 1.0
    assert measures.agreement.choices > measures.tokens, "prompts are compared as well"
    assert measures.clipped == 0
    assert measures.mean(measures.entropy) > 0.5, "a distribution with something to draw"


def test_answers_of_a_group_differ_and_are_the_same_again(model, ops, rollouts, problems, encoder, meter):
    asked = problems.draw(Random(1), 2)
    first = rollouts.sample(asked, 4, Random(2))
    again = Rollouts(engine_model(model, ops), MOST, [encoder.eos], meter).sample(asked, 4, Random(2))
    other = rollouts.sample(asked, 4, Random(3))
    assert ids_of(first) == ids_of(again) != ids_of(other)
    assert [group.problem for group in first] == asked
    assert all(len({tuple(answer.ids) for answer in group.answers}) == 4 for group in first)


def ids_of(groups):
    return [answer.ids for group in groups for answer in group.answers]


def test_weights_reach_the_engine_without_a_file(model, ops, encoder):
    ids = np.array(encoder.tokenizer.encode("What is 4 + 3?"))

    def engine_logits():
        network = engine_model(model, ops)
        return network.logits(network.forward(ids, network.new_cache("float32")))

    before = engine_logits()
    with torch.no_grad():
        model.model.layers[1].mlp.experts.down_proj += 0.05
        expected = model.logits(torch.from_numpy(ids)[None])[0].numpy()
    after = engine_logits()
    np.testing.assert_allclose(after, expected, atol=1e-4)
    assert np.abs(after - before).max() > 1e-3


def test_what_a_group_shares_is_computed_once_and_its_routes_are_known(model, ops, encoder, meter):
    """A prompt of more than a page: those behind the first one find it in the cache."""
    example = TASKS["chain"].generate(Random(0), "train")
    prompt = encoder.conversation(example).ids[:3] * (PAGE // 2)
    asked = [Problem(example, "long", prompt[: PAGE + 9]), Problem(example, "longer", prompt[: PAGE + 20])]
    rollouts = Rollouts(engine_model(model, ops), 5, [encoder.eos], meter)
    groups = rollouts.sample(asked, 3, Random(2))
    for group in groups:
        for answer in group.answers:
            assert len(answer.routes) == len(group.problem.prompt) + len(answer.ids) - 1
    assert measured(model, groups, encoder).agreement.share == 1.0


def test_scores_that_are_no_numbers_end_it_with_one_clear_error(model, problems, meter):
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    broken = Rollouts(engine_model(model, select("reference").ops), MOST, [1], meter)
    with pytest.raises(TrainingError, match=r"an answer could not be sampled: .* NaN"):
        broken.sample(problems.draw(Random(1), 1), 2, Random(2))
