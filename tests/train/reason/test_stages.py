"""Whole runs that reinforce and sample: the bundled model for a few steps, stopped, and gone on with."""

import json
from random import Random

import pytest
import torch
from safetensors import safe_open

from araio.errors import TrainingError
from araio.train.loop import Trainer
from araio.train.recipe import Recipe
from araio.train.tasks import TASKS

REINFORCE = {
    "kind": "reinforce",
    "name": "reinforce",
    "steps": 3,
    "prompts": 2,
    "samples": 4,
    "max_tokens": 64,
    "sequence_length": 192,
    "rows": 4,
    "learning_rate": 1e-4,
    "draws": 2,
    "mix": {"implication": 1.0},
}
SAMPLE = {
    "kind": "sample",
    "name": "harvest",
    "steps": 2,
    "prompts": 2,
    "samples": 4,
    "max_tokens": 64,
    "sequence_length": 192,
    "mix": {"implication": 1.0},
}
LEARN = {"name": "learn", "steps": 1, "rows": 2, "sequence_length": 256, "learning_rate": 1e-5}


def recipe_of(*stages, **changes):
    document = {
        "name": "reason",
        "start_from": "pocket",
        "checkpoint_every": 100,
        "optimizer": {"name": "adamw", "weight_decay": 0.0},
        "stages": [*stages],
    }
    return Recipe.from_dict(document | changes)


def train(recipe, folder, until=None):
    reports = []
    trainer = Trainer(recipe, folder)
    trainer.run(reports.append, lambda: until is not None and trainer.step >= until)
    return trainer, reports


def parameters(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def are_equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def model_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "model").glob("*.safetensors")}


def samples_of(folder):
    return (folder / "samples" / "harvest.jsonl").read_text(encoding="utf-8")


def test_the_pipeline_of_r1_stops_and_goes_on_to_the_same_bits(tmp_path):
    recipe = recipe_of(
        LEARN | {"name": "cold start", "mix": {"implication": 1.0}, "beyond": {"implication": 1.0}},
        REINFORCE | {"steps": 2},
        SAMPLE,
        LEARN | {"name": "again", "samples": "harvest", "samples_share": 3.0, "mix": {"chain": 1.0}},
        REINFORCE | {"name": "second", "steps": 1},
    )
    _, reports = train(recipe, tmp_path / "whole")
    kinds = ["learn", "reinforce", "reinforce", "sample", "sample", "learn", "reinforce"]
    assert [getattr(report, "kind", "learn") for report in reports] == kinds[1:5] + kinds[6:], (
        "a stage that learns has a line every log_every steps, those that ask have one each"
    )
    for until in (2, 4, 6):
        train(recipe, tmp_path / "parts", until)
        with (tmp_path / "parts" / "metrics.jsonl").open("a") as log:
            log.write(
                json.dumps({"step": until + 1, "stage": "reinforce", "tallies": {"lost": [0, 99]}}) + "\n"
            )
        if until == 4:
            # What a killed run had written behind its last state.
            with (tmp_path / "parts" / "samples" / "harvest.jsonl").open("a") as samples:
                samples.write(json.dumps({"step": 5, "lost": True}) + "\n")
    train(recipe, tmp_path / "parts")
    assert samples_of(tmp_path / "parts") == samples_of(tmp_path / "whole")
    assert model_of(tmp_path / "parts") == model_of(tmp_path / "whole")
    sampled = [json.loads(line) for line in samples_of(tmp_path / "whole").splitlines()]
    assert len(sampled) == sum(report.kept for report in reports if report.kind == "sample") > 0
    for line in sampled:
        assert {"task": "implication", "step": line["step"]}.items() <= line.items()
        assert line["answer"].strip() in ("yes", "no", "unknown")


def test_a_step_is_measured(tmp_path):
    trainer = Trainer(recipe_of(REINFORCE | {"steps": 1}), tmp_path)
    before = parameters(trainer)
    reports = []
    trainer.run(reports.append, lambda: False)
    (report,) = reports
    after = parameters(trainer)
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert {"lm_head.weight", "model.layers.1.mlp.gate.weight", "model.layers.6.eh_proj.weight"} <= moved
    assert not any(name.endswith("e_score_correction_bias") for name in moved), "balance is frozen"
    assert report.largest_logprob_difference < 1e-4
    assert report.logprob_difference < 1e-5
    assert report.routing_agreement > 0.9999
    assert report.clip_fraction == 0
    assert report.entropy > 0
    assert 0 < report.pass_at_1 <= report.pass_at_group <= 1
    assert report.answers == sum(answers for _, answers in report.tallies.values())
    assert report.tokens == pytest.approx(report.answers * report.response_tokens)
    assert 0 < report.learned_tokens <= report.tokens
    assert report.groups <= 2
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["tallies"] == report.tallies
    assert json.loads((tmp_path / "receipt.json").read_text())["tokens"] == report.tokens


def test_updates_off_policy_differ_from_what_was_sampled(tmp_path):
    changes = {"steps": 1, "updates": 2, "prompts": 4, "samples": 8, "learning_rate": 1e-3}
    _, (report,) = train(recipe_of(REINFORCE | changes | {"objective": "gspo", "replay": True}), tmp_path)
    assert report.groups >= 2
    assert report.largest_logprob_difference > 1e-3
    assert report.routing_agreement < 1
    assert report.clip_fraction > 0, "the clip of gspo is narrow"


def test_a_policy_is_held_to_its_beginning(tmp_path):
    _, (first, second) = train(recipe_of(REINFORCE | {"steps": 2, "kl_weight": 0.5}), tmp_path)
    assert first.kl < 1e-9 < 1e-7 < second.kl
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["0.safetensors"]


# ------------------------------------------------------------------ trouble


def fail(example, answer):
    raise ValueError("no such answer")


def test_a_verifier_that_raises_skips_its_answers_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(TASKS["implication"], "verify", fail)
    trainer = Trainer(recipe_of(REINFORCE | {"steps": 1, "format_reward": 0.0, "prompts": 4}), tmp_path)
    before = parameters(trainer)
    reports = []
    assert trainer.run(reports.append, lambda: False)
    (report,) = reports
    assert report.skipped > 0
    assert report.notes[0] == (
        f"skipped {report.skipped} answers that could not be judged: the verifier of implication raised "
        "ValueError: no such answer"
    )
    assert are_equal(before, parameters(trainer))


def test_a_reward_that_is_constant_moves_nothing_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(TASKS["implication"], "verify", lambda example, answer: False)
    trainer = Trainer(recipe_of(REINFORCE | {"steps": 2, "format_reward": 0.0}), tmp_path)
    before = parameters(trainer)
    reports = []
    assert trainer.run(reports.append, lambda: False)
    for report in reports:
        assert report.without_signal == 1
        assert report.groups == 0
        assert report.notes == [
            "all rewards were equal within each group, in 2 draws of problems: no weight has moved"
        ]
    assert are_equal(before, parameters(trainer))


@pytest.mark.parametrize("what", ["objective", "gradient norm"])
def test_what_is_no_number_ends_the_run_and_keeps_the_state(tmp_path, what):
    recipe = recipe_of(REINFORCE)
    train(recipe, tmp_path, until=1)
    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        assert file.metadata()["step"] == "1"
    state = (tmp_path / "state.safetensors").read_bytes()
    trainer = Trainer(recipe, tmp_path)
    if what == "objective":
        trainer.model.model.norm.register_forward_hook(lambda module, inputs, output: output * float("nan"))
    else:
        trainer.model.model.norm.weight.register_hook(lambda gradient: gradient * float("nan"))
    before = parameters(trainer)
    with pytest.raises(
        TrainingError, match=rf"the {what} is nan at step 2; lower the recipe's learning rate"
    ):
        trainer.run(lambda report: None, lambda: False)
    assert (tmp_path / "state.safetensors").read_bytes() == state
    assert are_equal(before, parameters(trainer))
    train(recipe, tmp_path, until=2)


def test_samples_that_are_missing_are_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(TASKS["implication"], "verify", lambda example, answer: False)
    recipe = recipe_of(SAMPLE | {"steps": 1}, LEARN | {"samples": "harvest"})
    with pytest.raises(TrainingError, match=r"harvest\.jsonl: (holds no sample|cannot be read)"):
        train(recipe, tmp_path)


def test_a_folder_of_samples_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "samples").write_text("")
    with pytest.raises(TrainingError, match=r"samples: cannot be created"):
        train(recipe_of(SAMPLE), tmp_path)


# ------------------------------------------------------------------ another teacher


def test_a_small_student_learns_from_a_teacher_s_samples(tiny_document, tmp_path):
    document = tiny_document | {
        "name": "student",
        "stages": [
            SAMPLE | {"teacher": "pocket", "steps": 1, "prompts": 3, "keep": 2},
            LEARN | {"samples": "harvest", "steps": 2, "learning_rate": 1e-3},
        ],
    }
    del document["model"]["num_nextn_predict_layers"]
    trainer, reports = train(Recipe.from_dict(document), tmp_path)
    lines = samples_of(tmp_path).splitlines()
    assert 0 < len(lines) == reports[0].kept <= 6
    stream = trainer.streams.stages[1]
    learned = {tuple(document.ids) for document in stream.source.documents}
    assert len(learned) == len(lines)
    drawn = stream.source.draw(Random(1))
    text = trainer.tokenizer.decode(drawn.ids)
    assert any(json.loads(line)["reasoning"] in text for line in lines)
