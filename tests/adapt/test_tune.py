"""Tuning: what moves and what does not, the same bits after a stop, and what is written."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import araio
from araio.adapt import tune
from araio.adapt.lessons import Lesson, Lessons, read_lessons
from araio.adapt.partly_trained import PartlyTrained, train_only, tuned_tensors
from araio.adapt.relevance import relevant_experts
from araio.adapt.scores import score
from araio.adapt.statistics import observe
from araio.adapt.tune import Tuner
from araio.adapt.tune_settings import TuneSettings
from araio.config import ModelConfig
from araio.errors import AdapterError, ProfileError, TrainingError
from araio.formats.checkpoint import Checkpoint
from araio.formats.store_layout import StoreCodecs
from araio.kernels.widen import widen
from araio.train.checkpoint import checkpoint_tensors
from araio.train.model import SparseModel
from araio.train.start import load_weights
from araio.weights.convert import convert

EXPERTS = {1: (0, 3, 7), 2: (9,)}
SETTINGS = TuneSettings(steps=6, learning_rate=1e-2, rows=2, length=48, save_every=4)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lessons_of(seed, count=12):
    rng = np.random.default_rng(seed)
    made = tuple(Lesson(tuple(rng.integers(3, 250, rng.integers(8, 30)).tolist()), 4) for _ in range(count))
    return Lessons(made[3:], made[:3], 0)


LESSONS = lessons_of(0)


def tuned(folder, out, *, until=None, experts=EXPERTS, settings=SETTINGS, **options):
    tuner = Tuner(str(folder), out, LESSONS, settings, experts, **options)
    finished = tuner.run(lambda report: None, lambda: until is not None and tuner.step >= until)
    assert finished == (until is None)
    return tuner


def tensors_of(folder):
    with Checkpoint.open(folder) as checkpoint:
        return {name: widen(checkpoint.read_weight(name)) for name in checkpoint}


def bits_of(folder):
    return hashlib.sha256((folder / "experts.safetensors").read_bytes()).hexdigest()


# ------------------------------------------------------------------ some experts of a stack


@pytest.fixture(params=["v2-lite", "v3"])
def model(request, tmp_path):
    from araio.testing.checkpoints import write_tiny_checkpoint

    write_tiny_checkpoint(tmp_path / "m", request.param, num_nextn_predict_layers=0)
    made = SparseModel(ModelConfig.from_file(tmp_path / "m"))
    load_weights(made, tmp_path / "m")
    return made


TOKENS = torch.from_numpy(np.random.default_rng(2).integers(3, 250, (2, 20)))


@pytest.mark.parametrize(
    "experts", [{1: (0, 3, 7), 2: (4,)}, {1: (), 2: (2, 6)}, {1: tuple(range(8)), 2: (0,)}]
)
def test_a_partly_trained_model_computes_the_same(model, experts):
    expected = model.logits(TOKENS)
    if len(experts[1]) == 8:
        experts = {1: tuple(range(model.config.n_routed_experts)), 2: (0,)}
    train_only(model, experts)
    torch.testing.assert_close(model.logits(TOKENS), expected, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_whole_stack_and_nowhere_else(model):
    model.logits(TOKENS).square().mean().backward()
    whole = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
    model.zero_grad()
    experts = {1: (0, 3, 7), 2: (4,)}
    train_only(model, experts)
    model.logits(TOKENS).square().mean().backward()
    moved = {name for name, tensor in model.named_parameters() if tensor.grad is not None}
    assert moved == {
        f"model.layers.{layer}.mlp.experts.tuned.{matrix}"
        for layer in experts
        for matrix in ("gate_proj", "up_proj", "down_proj")
    }
    for layer, ids in experts.items():
        module = model.model.layers[layer].mlp.experts
        assert isinstance(module, PartlyTrained)
        for matrix, parameter in module.tuned.items():
            expected = whole[f"model.layers.{layer}.mlp.experts.{matrix}"][list(ids)]
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-8)


def test_experts_that_no_token_chose_get_a_gradient_of_zero(model):
    routes = model(TOKENS, torch.zeros_like(TOKENS), torch.arange(20).expand(2, 20)).routes
    used = set(routes[0].ids.unique().tolist())
    idle = sorted(set(range(model.config.n_routed_experts)) - used)
    if not idle:
        one = TOKENS[:1, :1]
        routes = model(one, torch.zeros_like(one), torch.zeros_like(one)).routes
        idle, tokens = (
            sorted(set(range(model.config.n_routed_experts)) - set(routes[0].ids.unique().tolist())),
            one,
        )
    else:
        tokens = TOKENS
    train_only(model, {1: idle[:1], 2: (0,)})
    model.logits(tokens).square().mean().backward()
    assert model.model.layers[1].mlp.experts.tuned["gate_proj"].grad.abs().max() == 0


# ------------------------------------------------------------------ a run


@pytest.fixture(scope="module")
def done(tiny_folder, tmp_path_factory):
    """A run without interruption."""
    out = tmp_path_factory.mktemp("tune") / "done"
    return tuned(tiny_folder, out)


def test_only_the_chosen_experts_move_and_all_else_stays_bit_for_bit(done, tiny_folder):
    own = tensors_of(tiny_folder)
    trained = dict(checkpoint_tensors_of(done.model))
    names = set(done.adapter.names)
    assert len(names) == 3 * 4
    for name, tensor in trained.items():
        if name not in names:
            np.testing.assert_array_equal(tensor, own[name], err_msg=name)
    for name, tensor in tuned_tensors(done.model):
        assert np.abs(tensor.numpy() - own[name]).max() > 0


def checkpoint_tensors_of(model):
    """Every frozen number of a partly trained model, under published names."""
    for name, tensor in checkpoint_tensors(model):
        if ".experts." not in name:
            yield name, tensor.numpy()
    for name, module in model.named_modules():
        if isinstance(module, PartlyTrained):
            others = [expert for expert in range(module.n_experts) if expert not in module.ids]
            for matrix, stack in module.frozen.items():
                for place, expert in enumerate(others):
                    yield f"{name}.{expert}.{matrix}.weight", stack[place].numpy()


def test_the_adapter_holds_what_was_trained_and_lowers_the_loss(done, tiny_folder):
    model = araio.load(tiny_folder, adapter=done.out)
    assert model.adapter.experts == {1: (0, 3, 7), 2: (9,)}
    assert {path.name for path in done.out.iterdir()} == {
        "adapter.json",
        "experts.safetensors",
        "expert_cfg.json",
    }
    assert not done.partial.exists()
    for name, tensor in tuned_tensors(done.model):
        stored = Checkpoint(done.out, [model.adapter.tensors], (128, 128)).read_weight(name)
        np.testing.assert_array_equal(widen(stored), tensor.to(torch.bfloat16).float().numpy())
    document = json.loads((done.out / "adapter.json").read_text())
    assert document["tuning"]["steps"] == 6
    assert document["tuning"]["receipt"]["steps"] == 6
    assert document["tuning"]["receipt"]["energy"][0]["joules"] > 0
    evaluation = document["evaluation"]
    assert evaluation["held_out_lessons"] == 3
    assert evaluation["loss_before"] > 0
    assert evaluation["loss_after"] != evaluation["loss_before"]
    losses = []
    again = Tuner(str(tiny_folder), done.out.with_name("more"), LESSONS, SETTINGS, EXPERTS)
    again.run(lambda report: losses.append(report.loss), lambda: False)
    assert losses[-1] < losses[0]


def test_the_model_that_is_run_is_the_one_that_was_trained(done, tiny_folder):
    ids = list(LESSONS.learned[0].ids)
    found = araio.load(tiny_folder, adapter=done.out).logits(ids)
    expected = done.model.logits(torch.tensor([ids]))[0].detach().numpy()
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.abs(found - araio.load(tiny_folder).logits(ids)).max() > 0.1


@pytest.mark.parametrize("experts", [EXPERTS, None], ids=["experts", "full"])
def test_a_run_that_stops_twice_ends_in_the_same_bits(tiny_folder, tmp_path, experts):
    whole = tuned(tiny_folder, tmp_path / "whole", experts=experts)
    for until in (2, 5, None):
        parts = tuned(tiny_folder, tmp_path / "parts", experts=experts, until=until)
    for (name, one), (_, other) in zip(
        whole.model.named_parameters(), parts.model.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    assert parts.receipt.to_json()["steps"] == 6
    if experts is not None:
        assert bits_of(tmp_path / "whole") == bits_of(tmp_path / "parts")


def test_the_state_holds_nothing_that_is_frozen(tiny_folder, tmp_path):
    tuner = tuned(tiny_folder, tmp_path / "out", until=1)
    size, trained = tuner.state_path.stat().st_size, 4 * tuner.trained_parameters
    assert 3 * trained <= size < 3 * trained + 20_000  # with two moments, and the routers' biases


def test_full_tuning_writes_a_checkpoint_that_keeps_its_prediction_module(tiny_folder, tmp_path):
    tuner = tuned(tiny_folder, tmp_path / "full", experts=None)
    own, found = tensors_of(tiny_folder), tensors_of(tmp_path / "full")
    assert own.keys() == found.keys()
    layer = tuner.model.config.num_hidden_layers
    for name in own:
        if name.startswith(f"model.layers.{layer}.") or name.endswith("e_score_correction_bias"):
            np.testing.assert_array_equal(found[name], own[name])
    assert np.abs(found["model.embed_tokens.weight"] - own["model.embed_tokens.weight"]).max() > 0
    assert araio.load(tmp_path / "full").chat("hello", max_tokens=2).usage["completion_tokens"] == 2


# ------------------------------------------------------------------ refusals


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_state(tiny_folder, tmp_path, monkeypatch):
    tuned(tiny_folder, tmp_path / "out", until=3)
    tuner = Tuner(str(tiny_folder), tmp_path / "out", LESSONS, SETTINGS, EXPERTS)
    before = tuner.state_path.read_bytes()
    whole = tune.compute_loss

    def broken(*arguments, **options):
        loss = whole(*arguments, **options)
        return type(loss)(loss.total * math.nan, loss.next_token, loss.mtp, loss.balance, loss.routes)

    monkeypatch.setattr(tune, "compute_loss", broken)
    with pytest.raises(
        TrainingError, match=r"the loss is nan at step 4; lower --learning-rate \(now 0\.01\)"
    ):
        tuner.run(lambda report: None, lambda: False)
    assert tuner.state_path.read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_the_state_of_another_run_is_refused(tiny_folder, tmp_path):
    tuned(tiny_folder, tmp_path / "out", until=1)
    faster = TuneSettings(steps=6, learning_rate=1e-1, rows=2, length=48, save_every=4)
    with pytest.raises(TrainingError, match=r"differs in settings\.learning_rate"):
        Tuner(str(tiny_folder), tmp_path / "out", LESSONS, faster, EXPERTS)
    with pytest.raises(TrainingError, match="differs in lessons"):
        Tuner(str(tiny_folder), tmp_path / "out", lessons_of(1), SETTINGS, EXPERTS)


def test_what_exists_is_not_replaced(done, tiny_folder):
    with pytest.raises(AdapterError, match="exists already; delete it, or give another name"):
        Tuner(str(tiny_folder), done.out, LESSONS, SETTINGS, EXPERTS)


def test_a_store_is_refused(tiny_folder, tmp_path):
    convert(Path(tiny_folder), tmp_path / "store", StoreCodecs("q8", "q8", "q8"))
    with pytest.raises(TrainingError, match="is a store of `araio convert`; tune the checkpoint that it was"):
        Tuner(str(tmp_path / "store"), tmp_path / "out", LESSONS, SETTINGS, EXPERTS)


@pytest.mark.parametrize("field", ["steps", "learning_rate", "rows", "length"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(TrainingError, match=f"{field} is .*; expected a number above 0"):
        TuneSettings(**{field: value})


def test_the_learning_rate_rises_and_falls():
    settings = TuneSettings(steps=100, learning_rate=1.0)
    rates = [settings.learning_rate_at(step) for step in range(100)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.01)


# ------------------------------------------------------------------ the choice of experts


@pytest.mark.parametrize(("relevance", "name"), [("token", "frequency"), ("gate", "gate")])
def test_relevant_experts_are_the_fewest_that_hold_the_share(tiny, relevance, name):
    seen = sum(
        (observe(tiny, one.ids) for one in LESSONS.learned[1:]), start=observe(tiny, LESSONS.learned[0].ids)
    )
    shares = score(seen.rows(tiny.config.moe_layers), name)
    chosen = relevant_experts(tiny, LESSONS.learned, p=0.3, relevance=relevance)
    assert list(chosen) == list(tiny.config.moe_layers)
    for row, ids in zip(shares, chosen.values(), strict=True):
        held = row[list(ids)]
        assert held.sum() >= 0.3 - 1e-9
        assert held.sum() - held.min() < 0.3
        assert held.min() >= np.delete(row, list(ids)).max() - 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 0}, "p is 0; expected a share above 0"),
        ({"relevance": "x"}, "no relevance 'x'; expected token or"),
    ],
)
def test_no_share_and_no_relevance_are_refused(tiny, options, message):
    with pytest.raises(ProfileError, match=message):
        relevant_experts(tiny, LESSONS.learned, **options)


def test_bundled_problems_can_be_tuned_on_in_any_format(tiny_folder, tiny):
    assert read_lessons(["task:letters"], tiny.chat_format, longest=256, n=3).learned
