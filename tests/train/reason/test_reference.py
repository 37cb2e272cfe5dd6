"""The reference: taken when it is due, found again by a run that goes on, and told of when it is lost."""

import pytest
import torch

from araio.errors import TrainingError
from araio.train.reason.reference import Reference


def weight_of(model):
    return model.lm_head.weight.detach().clone()


@pytest.fixture
def move(model):
    def step():
        with torch.no_grad():
            model.lm_head.weight += 1
        return weight_of(model)

    return step


def test_the_policy_takes_its_place_every_so_many_steps(model, move, tmp_path):
    begun = weight_of(model)
    reference = Reference(model, tmp_path / "reference", every=2)
    reference.prepare(step=10, within=0)
    move()
    reference.prepare(step=11, within=1)
    assert torch.equal(weight_of(reference.model), begun)
    latest = move()
    reference.prepare(step=12, within=2)
    assert torch.equal(weight_of(reference.model), latest)


def test_a_run_that_goes_on_finds_the_one_that_was_in_use(model, move, tmp_path):
    reference = Reference(model, tmp_path, every=2)
    reference.prepare(step=10, within=0)
    begun = weight_of(model)
    move()
    move()
    reference.prepare(step=12, within=2)
    latest = weight_of(model)
    move()
    for step, within, expected in ((11, 1, begun), (13, 3, latest)):
        resumed = Reference(model, tmp_path, every=2)
        resumed.prepare(step, within)
        assert torch.equal(weight_of(resumed.model), expected)
    reference.forget_before(11)
    assert len(list(tmp_path.iterdir())) == 2, (
        "the state is that of step 11, whose reference is the older one"
    )
    reference.forget_before(12)
    assert [path.name for path in tmp_path.iterdir()] == ["12.safetensors"]


def test_without_a_number_of_steps_the_first_one_stays(model, move, tmp_path):
    reference = Reference(model, tmp_path, every=0)
    begun = weight_of(model)
    for within in range(3):
        reference.prepare(step=10 + within, within=within)
        move()
    assert torch.equal(weight_of(reference.model), begun)


def test_one_that_is_lost_is_one_clear_error(model, tmp_path):
    with pytest.raises(TrainingError, match=r"10\.safetensors: is missing, and the run cannot go on without"):
        Reference(model, tmp_path, every=0).prepare(step=11, within=1)
