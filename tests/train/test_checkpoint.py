"""The state of a run and the exported model: what is written comes back, and what is damaged is refused."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from araio.errors import TrainingError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import expected_tensors
from araio.testing.checkpoints import tiny_config
from araio.train.checkpoint import checkpoint_tensors, export_model, load_state, load_tensors, save_state
from araio.train.model import SparseModel
from araio.train.optim import build_optimizers
from araio.weights.load import load_model

IDENTITY = {"seed": 1, "model": {"hidden_size": 64}, "optimizer": {"clip": 0.1}}


def make_model(family="v3", seed=0, **overrides):
    model = SparseModel(tiny_config(family, **overrides))
    model.initialise(torch.Generator().manual_seed(seed), std=0.1)
    for router in model.routers():
        if router.config.has_router_bias:
            router.e_score_correction_bias.copy_(torch.linspace(-0.501, 0.3, len(router.weight)))
    return model


def make_run(optimizer="muon", steps=2, **overrides):
    """A model and its optimizers after a few steps on random gradients."""
    model = make_model(**overrides)
    optimizers = build_optimizers(model, optimizer, 1e-2, 0.1, (0.9, 0.95))
    torch.manual_seed(7)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        for each in optimizers:
            each.step()
    return model, optimizers


def logits_of(model, ids):
    with torch.no_grad():
        return model.logits(torch.from_numpy(ids)[None])[0].numpy()


def reference_logits(folder, ids):
    model = load_model(folder)
    return model.logits(model.forward(ids, model.new_cache("float32")))


IDS = np.random.default_rng(0).integers(0, 290, 50)


# ------------------------------------------------------------------ published format


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ["v2-lite", "v2", "v3"])
def test_names_and_shapes_are_the_published_ones(family, tied):
    model = make_model(family, tie_word_embeddings=tied)
    tensors = {name: tuple(tensor.shape) for name, tensor in checkpoint_tensors(model)}
    assert tensors == expected_tensors(model.config)


@pytest.mark.parametrize("tied", [False, True])
def test_a_float32_export_gives_the_same_logits_without_torch(tmp_path, tied):
    model = make_model(tie_word_embeddings=tied)
    export_model(tmp_path, model, torch.float32)
    np.testing.assert_allclose(reference_logits(tmp_path, IDS), logits_of(model, IDS), rtol=0, atol=1e-5)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "float32"


def test_a_bfloat16_export_rounds_the_weights_and_spares_the_bias(tmp_path):
    model = make_model()
    export_model(tmp_path, model, torch.bfloat16)
    bias = model.routers()[0].e_score_correction_bias
    with Checkpoint.open(tmp_path) as checkpoint:
        stored = checkpoint.read("model.layers.1.mlp.gate.e_score_correction_bias")
    np.testing.assert_array_equal(stored, bias.numpy())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    np.testing.assert_allclose(reference_logits(tmp_path, IDS), logits_of(model, IDS), rtol=0, atol=1e-5)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_an_export_replaces_the_one_before(tmp_path):
    export_model(tmp_path, make_model(seed=1), torch.float32)
    model = make_model(seed=2)
    export_model(tmp_path, model, torch.float32)
    np.testing.assert_allclose(reference_logits(tmp_path, IDS), logits_of(model, IDS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["v2", "v3"])
def test_transformers_loads_an_export_and_agrees(tmp_path, family):
    model = make_model(family)
    export_model(tmp_path, model, torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(IDS)[None]).logits[0].numpy()
    np.testing.assert_allclose(logits_of(model, IDS), expected, rtol=0, atol=1e-4)


def test_loading_is_the_inverse_of_naming():
    model, other = make_model(seed=1), make_model(seed=2)
    load_tensors(other, dict(checkpoint_tensors(model)))
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.layers.1.mlp.experts.3.up_proj.weight"), r"experts\.3\.up_proj.* is missing"),
        (lambda t: t.update({"model.norm.weight": torch.ones(3)}), r"norm.* of shape \(3,\); expected .*64"),
        (lambda t: t.update({"model.extra": torch.ones(3)}), r"does not have: model\.extra"),
    ],
)
def test_loading_is_strict(change, message):
    model = make_model()
    tensors = dict(checkpoint_tensors(model))
    change(tensors)
    with pytest.raises(TrainingError, match=message):
        load_tensors(model, tensors)


# ------------------------------------------------------------------ state of a run


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_state_comes_back_bit_for_bit(tmp_path, optimizer, tied):
    model, optimizers = make_run(optimizer, tie_word_embeddings=tied)
    save_state(tmp_path / "a.safetensors", model, optimizers, 17, IDENTITY)
    other, others = make_run(optimizer, steps=0, seed=9, tie_word_embeddings=tied)
    assert load_state(tmp_path / "a.safetensors", other, others, IDENTITY) == 17
    save_state(tmp_path / "b.safetensors", other, others, 17, IDENTITY)
    first, second = (load_file(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    # And the next step is the same one: nothing that decides it was left out.
    for run in (model, optimizers), (other, others):
        for parameter in run[0].parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        for each in run[1]:
            each.step()
    for (name, tensor), after in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        if "bias" not in name:
            assert torch.equal(tensor, after), name


@pytest.fixture
def saved(tmp_path):
    model, optimizers = make_run()
    path = tmp_path / "state.safetensors"
    save_state(path, model, optimizers, 3, IDENTITY)
    return path


def load_into_a_new_run(path, identity=IDENTITY):
    model, optimizers = make_run(steps=0)
    return load_state(path, model, optimizers, identity)


def test_another_recipe_is_refused_and_the_differing_keys_are_named(saved):
    other = {"seed": 1, "model": {"hidden_size": 64, "n_group": 2}, "optimizer": {"clip": 0.2}}
    with pytest.raises(
        TrainingError, match=r"differs in model\.n_group, optimizer\.clip; train into another"
    ):
        load_into_a_new_run(saved, other)
    assert load_into_a_new_run(saved) == 3


@pytest.mark.parametrize("kept", [0, 5, 100, -100, -1])
def test_a_truncated_state_is_refused_by_name(saved, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: kept if kept >= 0 else len(content) + kept])
    with pytest.raises(TrainingError, match=r"state\.safetensors: is damaged"):
        load_into_a_new_run(saved)


@pytest.mark.parametrize(
    "metadata", [None, {"step": "3"}, {"step": "x", "identity": "{}"}, {"step": "3", "identity": "{"}]
)
def test_a_file_that_is_no_state_is_refused(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.ones(2)}, path, metadata)
    with pytest.raises(TrainingError, match=r"other\.safetensors: is damaged, or is not the state of a run"):
        load_into_a_new_run(path)


def test_a_state_without_a_tensor_is_refused(saved):
    tensors = load_file(saved)
    del tensors["model.lm_head.weight"]
    metadata = {"step": "3", "identity": json.dumps(IDENTITY)}
    save_file(tensors, saved, metadata)
    with pytest.raises(TrainingError, match=r"state\.safetensors: tensor lm_head\.weight is missing"):
        load_into_a_new_run(saved)


def test_the_folder_is_flushed_after_the_state_took_its_name(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    flushed = []

    def remember(descriptor):
        flushed.append((os.path.samestat(os.fstat(descriptor), tmp_path.stat()), path.exists()))

    monkeypatch.setattr("araio.train.checkpoint.os.fsync", remember)
    save_state(path, *make_run(), 3, IDENTITY)
    assert flushed == [(False, False), (True, True)]


def test_a_state_that_cannot_be_written_leaves_the_old_one(saved, monkeypatch):
    before = saved.read_bytes()
    model, optimizers = make_run()

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("araio.train.checkpoint.os.fsync", full)
    with pytest.raises(TrainingError, match=r"cannot save step 4 .*No space left.*go on from there"):
        save_state(saved, model, optimizers, 4, IDENTITY)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
