"""Whole runs of a tiny recipe: they learn, balance, stop, are killed, and go on to the same bits."""

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from safetensors import safe_open

from araio.errors import FormatError, RecipeError, TextError, TrainingError
from araio.text.tokenizer import Tokenizer
from araio.train.balance import load_of
from araio.train.loop import Trainer
from araio.train.model import SparseModel
from araio.train.recipe import Recipe
from araio.weights.load import load_model

TINY = Path(__file__).with_name("tiny.toml")


def train(recipe, folder, until=None, on_step=lambda report: None, **options):
    """Run a recipe to its end, or until so many steps are done; the trainer."""
    trainer = Trainer(recipe, folder, **options)
    finished = trainer.run(on_step, lambda: until is not None and trainer.step >= until)
    assert finished == (until is None or until >= recipe.steps)
    return trainer


def state_of(folder):
    """All of a state but the order of its header's two entries, which the writer draws at random."""
    with safe_open(folder / "state.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        return file.metadata(), tensors


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "model").glob("*.safetensors")}


@pytest.fixture
def whole(tiny_recipe, tmp_path):
    """A run of the tiny recipe without interruption."""
    train(tiny_recipe, tmp_path / "whole")
    return tmp_path / "whole"


# ------------------------------------------------------------------ going on


@pytest.mark.parametrize(("dtype", "optimizer"), [("float32", "adamw"), ("bfloat16", "muon")])
def test_a_run_that_stops_twice_ends_in_the_same_bits(tiny_document, tmp_path, dtype, optimizer):
    recipe = Recipe.from_dict(tiny_document | {"dtype": dtype, "optimizer": {"name": optimizer}})
    train(recipe, tmp_path / "whole")
    for until in (5, 8, None):
        train(recipe, tmp_path / "parts", until)
    assert state_of(tmp_path / "parts") == state_of(tmp_path / "whole")
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")
    expected, found = metrics_of(tmp_path / "whole"), metrics_of(tmp_path / "parts")
    assert [line["step"] for line in found] == [line["step"] for line in expected] == [2, 4, 6, 8, 10]
    for key in ("loss", "mtp_loss", "gradient_norm", "learning_rate", "stage", "learned_tokens"):
        assert [line[key] for line in found] == [line[key] for line in expected]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from araio.train import checkpoint
from araio.train.loop import Trainer
from araio.train.model import SparseModel
from araio.train.recipe import Recipe

recipe, folder, moment, step = sys.argv[1:]
torch.set_num_threads(1)
trainer = Trainer(Recipe.from_file(Path(recipe)), Path(folder))

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_while_writing(tensors, path, metadata):
    if metadata["step"] != step:
        return save_file(tensors, path, metadata)
    Path(path).write_bytes(b"half of a state")
    die()

def on_step(report):
    if moment == "log" and report.step >= int(step):
        die()

save_file = checkpoint.save_file
if moment == "save":
    checkpoint.save_file = die_while_writing
trainer.run(on_step, lambda: moment == "step" and trainer.step == int(step) and die())
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bits(whole, tmp_path):
    rng = Random(11)
    kills = [
        ("step", rng.randint(1, 2)),  # before there is any state
        ("log", rng.choice([4, 6])),  # after a line of the log, before the state it belongs to
        ("save", 9),  # in the middle of writing the state
        ("never", 0),
    ]
    folder = tmp_path / "killed"
    for moment, step in kills:
        arguments = [sys.executable, "-c", KILLED, TINY, folder, moment, str(step)]
        done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False)
        assert done.returncode == (0 if moment == "never" else -signal.SIGKILL), done.stderr
    assert state_of(folder) == state_of(whole)
    assert weights_of(folder) == weights_of(whole)
    assert [line["step"] for line in metrics_of(folder)] == [2, 4, 6, 8, 10]


def test_what_was_done_is_not_done_again(tiny_recipe, whole):
    state = (whole / "state.safetensors").read_bytes()
    reports = []
    train(tiny_recipe, whole, on_step=reports.append)
    assert reports == []
    assert (whole / "state.safetensors").read_bytes() == state
    # A limit that is reached already allows no further step.
    train(tiny_recipe, whole.parent / "limited", 4)
    assert train(tiny_recipe, whole.parent / "limited", 4).step == 4


def test_the_steps_ahead_may_change_and_what_came_before_may_not(tiny_recipe, tmp_path):
    train(tiny_recipe, tmp_path, 2)
    slower = replace(tiny_recipe.stages[0], learning_rate=1e-4, steps=5)
    assert train(replace(tiny_recipe, stages=(slower,)), tmp_path).step == 5
    other = replace(tiny_recipe, seed=4, optimizer=replace(tiny_recipe.optimizer, clip=0.5))
    with pytest.raises(TrainingError, match=r"differs in optimizer\.clip, seed; train into another folder"):
        Trainer(other, tmp_path)


def test_a_damaged_state_or_tokenizer_is_one_clear_error(tiny_recipe, tmp_path):
    train(tiny_recipe, tmp_path, 2)
    state = tmp_path / "state.safetensors"
    content = state.read_bytes()
    state.write_bytes(content[:-7])
    with pytest.raises(TrainingError, match=r"state\.safetensors: is damaged"):
        Trainer(tiny_recipe, tmp_path)
    state.write_bytes(content)
    tokenizer = tmp_path / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text()[:100])
    with pytest.raises(TextError, match=r"tokenizer\.json"):
        Trainer(tiny_recipe, tmp_path)


# ------------------------------------------------------------------ starting


def test_a_start_that_failed_leaves_nothing_to_trip_over(one_stage, prose_folder, tmp_path):
    recipe = one_stage(mix={"chain": 1.0, "prose": 1.0}, sequence_length=400)
    with pytest.raises(RecipeError, match="--prose-folder"):
        Trainer(recipe, tmp_path / "run")
    Trainer(recipe, tmp_path / "run", prose_folder)
    Trainer(recipe, tmp_path / "new", prose_folder)
    written = [(tmp_path / name / "tokenizer" / "tokenizer.json").read_bytes() for name in ("run", "new")]
    assert written[0] == written[1], "a tokenizer of the failed start, without prose, was kept"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vocab_size", 100, r"model\.vocab_size is 100; expected at least the 272 tokens"),
        ("eos_token_id", 5, r"model\.eos_token_id is 5; expected 1"),
        ("bos_token_id", None, r"model\.bos_token_id is None; expected 0"),
    ],
)
def test_a_model_that_contradicts_its_tokenizer_is_refused(tiny_document, tmp_path, key, value, message):
    tiny_document["model"][key] = value
    with pytest.raises(RecipeError, match=message):
        Trainer(Recipe.from_dict(tiny_document), tmp_path)


def test_a_mistake_in_the_last_stage_is_told_before_the_first_step(tiny_document, tmp_path):
    tiny_document["stages"][1]["sequence_length"] = 20
    with pytest.raises(RecipeError, match="at most 20 tokens"):
        Trainer(Recipe.from_dict(tiny_document), tmp_path)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tiny_recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot be created"):
        Trainer(tiny_recipe, tmp_path / "file" / "run")


# ------------------------------------------------------------------ trouble on the way


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_state(tiny_recipe, tmp_path):
    train(tiny_recipe, tmp_path, 3)
    state = (tmp_path / "state.safetensors").read_bytes()
    trainer = Trainer(tiny_recipe, tmp_path)
    with torch.no_grad():
        trainer.model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"the loss is nan at step 4; lower the recipe's learning rate"):
        trainer.run(lambda report: None, lambda: False)
    assert (tmp_path / "state.safetensors").read_bytes() == state


def test_a_gradient_that_is_not_finite_moves_no_weight(tiny_recipe, tmp_path):
    trainer = Trainer(tiny_recipe, tmp_path)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.model.model.norm.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match=r"the gradient norm is (nan|inf) at step 1"):
        trainer.run(lambda report: None, lambda: False)
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not (tmp_path / "state.safetensors").exists()


def test_a_step_that_needs_more_memory_than_there_is_says_what_to_lower(tiny_recipe, tmp_path):
    train(tiny_recipe, tmp_path, 3)
    state = (tmp_path / "state.safetensors").read_bytes()
    trainer = Trainer(tiny_recipe, tmp_path)
    trainer.model.model.norm.register_forward_hook(lambda *_: torch.empty(1 << 46))
    advice = r"memory ran out .*; lower rows or sequence_length of stage 'chain' \(now 2 and 192\) and run"
    with pytest.raises(TrainingError, match=advice):
        trainer.run(lambda report: None, lambda: False)
    assert (tmp_path / "state.safetensors").read_bytes() == state


def test_a_mistake_of_our_own_is_not_called_a_lack_of_memory(tiny_recipe, tmp_path):
    trainer = Trainer(tiny_recipe, tmp_path)
    trainer.model.model.norm.register_forward_hook(lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        trainer.run(lambda report: None, lambda: False)


def test_a_model_that_needs_more_memory_than_there_is_says_what_to_lower(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(SparseModel, "initialise", lambda *_: torch.empty(1 << 46))
    with pytest.raises(TrainingError, match=r"memory ran out .*; lower the sizes in \[model\]"):
        Trainer(tiny_recipe, tmp_path)


def test_loads_are_counted_once_a_step(tiny_recipe, tmp_path, monkeypatch):
    counted = []

    def count(route, is_token):
        counted.append(route)
        return load_of(route, is_token)

    monkeypatch.setattr("araio.train.loop.load_of", count)
    train(tiny_recipe, tmp_path, 2)
    assert len(counted) == 2 * 2, "one routed layer and the MTP module's, two steps"


# ------------------------------------------------------------------ what comes out


def test_the_exported_model_is_the_trained_one(tiny_recipe, tmp_path):
    trainer = train(tiny_recipe, tmp_path)
    folder = tmp_path / "model"
    ids = np.array(Tokenizer.from_folder(folder).encode("What is 47 + 38?"))
    reference = load_model(folder)
    logits = reference.logits(reference.forward(ids, reference.new_cache("float32")))
    with torch.no_grad():
        expected = trainer.model.logits(torch.from_numpy(ids)[None])[0].numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    assert {path.name for path in folder.glob("*.json")} == {
        *("config.json", "generation_config.json", "model.safetensors.index.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    }


def test_a_run_that_starts_from_a_checkpoint_goes_on_with_its_weights(tiny_document, tmp_path):
    train(Recipe.from_dict(tiny_document), tmp_path / "first")
    first = tmp_path / "first" / "model"
    following = tiny_document | {"start_from": str(first)}
    del following["model"]
    recipe = Recipe.from_dict(following)
    begun = Trainer(recipe, tmp_path / "second")
    exported = load_model(first)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before = begun.model.logits(ids)[0].numpy()
    expected = exported.logits(exported.forward(ids[0].numpy(), exported.new_cache("float32")))
    np.testing.assert_allclose(before, expected, rtol=0, atol=1e-5)
    # Stopped and resumed, it goes on from its own state, not from the checkpoint again.
    train(recipe, tmp_path / "second", until=4)
    train(recipe, tmp_path / "second")
    train(recipe, tmp_path / "whole")
    assert weights_of(tmp_path / "second") == weights_of(tmp_path / "whole") != weights_of(tmp_path / "first")
    for name in ("tokenizer.json", "generation_config.json"):
        assert (tmp_path / "second" / "model" / name).read_bytes() == (first / name).read_bytes()


def test_a_damaged_checkpoint_to_start_from_is_one_clear_error(tiny_document, tmp_path):
    train(Recipe.from_dict(tiny_document), tmp_path / "first")
    first = tmp_path / "first" / "model"
    shard = next(first.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    following = tiny_document | {"start_from": str(first)}
    del following["model"]
    with pytest.raises(FormatError, match=shard.name):
        Trainer(Recipe.from_dict(following), tmp_path / "second")


def test_a_run_with_pools_stops_and_goes_on_to_the_same_bits(tiny_document, tmp_path):
    for stage in tiny_document["stages"]:
        stage.update(expert_pool=[4, 8], balance_weight=0.0)
    pooled = Recipe.from_dict(tiny_document)
    train(pooled, tmp_path / "whole")
    train(pooled, tmp_path / "parts", until=5)
    train(pooled, tmp_path / "parts")
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")
    for stage in tiny_document["stages"]:
        del stage["expert_pool"]
    train(Recipe.from_dict(tiny_document), tmp_path / "free")
    assert weights_of(tmp_path / "free") != weights_of(tmp_path / "whole")


def test_a_report_counts_what_the_step_saw(tiny_recipe, tmp_path):
    reports = []
    trainer = train(tiny_recipe, tmp_path, on_step=reports.append)
    assert [report.stage for report in reports] == ["chain"] * 3 + ["both"] * 2
    assert [report.tokens for report in reports] == [2 * 192] * 3 + [2 * 224] * 2
    assert reports[-1].learned_tokens == trainer.batch(9).learned_tokens
    assert reports[-1].learning_rate == pytest.approx(3e-4)
    assert reports[0].mtp_loss > 1
    assert reports[-1].mtp_loss == 0, "the second stage leaves the MTP module out"
    assert all(report.seconds > 0 and 0 < report.entropy <= 1 for report in reports)


@pytest.mark.slow
def test_sixty_steps_lower_the_loss_and_balance_the_experts(one_stage, tmp_path):
    stage = {
        "steps": 60,
        "rows": 6,
        "learning_rate": 1e-2,
        "final_learning_rate": 1e-3,
        "balance_speed": 0.01,
    }
    recipe = replace(one_stage(**stage), log_every=10)
    reports = []
    train(recipe, tmp_path, on_step=reports.append)
    first, last = reports[0], reports[-1]
    assert last.loss < 0.8 * first.loss < 0.6 * math.log(recipe.model.vocab_size)
    assert last.mtp_loss < 0.8 * first.mtp_loss
    assert last.max_violation_batch < 0.5 * first.max_violation_batch
    assert last.max_violation_global < 0.25
    assert last.dead_experts == 0
