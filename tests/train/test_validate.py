"""Held-out measures of a tiny model: what they count, and that they leave the model alone."""

import json
from random import Random

import pytest
import torch

from araio.train.balance import load_of, max_violation
from araio.train.loop import VALIDATION_BATCHES, Trainer
from araio.train.validate import validate


@pytest.fixture
def trainer(one_stage, tmp_path, prose_folder):
    recipe = one_stage(steps=2, mix={"chain": 3.0, "letters": 1.0, "prose": 1.0, "order": 0.0})
    return Trainer(recipe, tmp_path, prose_folder)


def test_loss_is_reported_for_every_family_of_the_mix(trainer):
    measured = validate(trainer.model, trainer.streams.validation, trainer.streams.validation_mix, 1)
    assert list(measured.loss) == ["chain", "letters", "prose"]
    # An untrained model knows nothing: about the logarithm of the vocabulary's size.
    expected = torch.tensor(float(trainer.recipe.model.vocab_size)).log()
    assert measured.loss["chain"] == pytest.approx(float(expected), rel=0.2)
    assert 0 <= measured.mtp_accuracy < 0.2


def test_validation_asks_what_training_never_shows(trainer):
    def drawn(source, family):
        return {tuple(source.draw_one(family, Random(seed)).ids) for seed in range(2000)}

    for family, stream in trainer.streams.validation.items():
        assert not drawn(trainer.streams.stages[0].source, family) & drawn(stream.source, family)


def test_balance_adds_the_loads_of_the_families_in_the_shares_of_the_mix(trainer):
    loads = {}
    for family, stream in trainer.streams.validation.items():
        batch = stream.batch(0)
        output = trainer.model(batch.tokens, batch.documents, batch.positions, with_mtp=False)
        loads[family] = [load_of(route, batch.is_token).double() for route in output.routes]
    layers = range(len(trainer.recipe.model.moe_layers))
    mixed = [
        sum(loads[f][i] / loads[f][i].sum() * share for f, share in trainer.streams.validation_mix.items())
        for i in layers
    ]
    measured = validate(trainer.model, trainer.streams.validation, trainer.streams.validation_mix, 1)
    assert measured.max_violation_global == pytest.approx(sum(map(max_violation, mixed)) / len(mixed))
    assert measured.worst_layer == pytest.approx(max(map(max_violation, mixed)))


def test_a_run_writes_it_at_its_end_and_validating_changes_no_weight(trainer):
    trainer.run(lambda report: None, lambda: False)
    written = json.loads((trainer.folder / "validation.json").read_text(encoding="utf-8"))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    again = validate(
        trainer.model, trainer.streams.validation, trainer.streams.validation_mix, VALIDATION_BATCHES
    )
    assert written["loss"] == again.loss
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
