"""Looking ahead: the next layer's own rule on what this one gives, told to whoever reads experts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from araio.nn.experts import ExpertWeights
from araio.nn.lookahead import Lookahead
from araio.nn.mask import ExpertMask, masks_of
from araio.nn.model import Model
from araio.nn.moe import MoE
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.testing.profiles import profile_of
from araio.weights.load import load_model

IDS = np.random.default_rng(3).integers(0, 250, 6)
IS_DECODED = np.zeros(3, np.bool_)


class Listener:
    """A source of experts that notes what it is told, in order."""

    def __init__(self, is_curious: bool = True, farthest: int = 1) -> None:
        self.told: list[tuple[str, int, np.ndarray]] = []
        self.curious, self.farthest = is_curious, farthest

    def is_curious(self, layer: int) -> bool:
        return self.curious

    def expect(self, layer: int, distance: int, expert_ids: np.ndarray, weights: np.ndarray) -> bool:
        assert expert_ids.shape == weights.shape
        self.told.append(("expect", layer, expert_ids))
        return distance < self.farthest


class Waiting:
    """A ticket whose experts are there, and which says that they are not."""

    def __init__(self, listener: Listener, layer: int, ids: np.ndarray, experts: ExpertWeights) -> None:
        listener.told.append(("request", layer, ids))
        self.experts = experts

    def at_hand(self) -> None:
        return None

    def arrivals(self):
        for expert in sorted(self.experts, reverse=True):
            yield {expert: self.experts[expert]}

    def give_up(self) -> None:
        pass


def looking_ahead(folder: Path, listener: Listener, waits: bool) -> tuple[Model, Model]:
    """A model as it is, and one that looks ahead with experts that come late."""
    plain = load_model(folder)
    lookahead = Lookahead(listener)
    blocks = []
    for block in plain.layers:
        moe = block.mlp
        if isinstance(moe, MoE):
            lookahead.add(block.post_attention_layernorm, moe.gate)
            if waits:
                layer = moe.gate.layer
                everything = moe.experts.request(layer, IDS[:1]).at_hand()

                class Late:
                    def request(self, layer, ids, everything=everything):
                        used = {e: everything[e] for e in set(ids.ravel().tolist())}
                        return Waiting(listener, layer, ids, used)

                moe = replace(moe, experts=Late(), lookahead=lookahead)
        blocks.append(replace(block, mlp=moe))
    return plain, replace(plain, layers=blocks, lookahead=lookahead)


@pytest.fixture(scope="module", params=["v2", "v3", "moonlight"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp(request.param)
    write_tiny_checkpoint(home, request.param, num_hidden_layers=4)
    return home


def test_it_changes_no_bit_and_tells_no_hook(folder: Path) -> None:
    listener = Listener()
    plain, model = looking_ahead(folder, listener, waits=True)
    seen: list[int] = []
    model.on_route = lambda layer, ids, weights: seen.append(layer)
    found = model.forward(IDS, model.new_cache())
    model.on_route = None
    expected = plain.forward(IDS, plain.new_cache())
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    assert seen == list(model.config.moe_layers)
    assert listener.told


def test_each_layer_is_foreseen_while_the_one_in_front_waits_and_again_when_it_is_done(folder: Path) -> None:
    listener = Listener()
    _, model = looking_ahead(folder, listener, waits=True)
    model.forward(IDS, model.new_cache())
    events = [(kind, layer) for kind, layer, _ in listener.told]
    assert events == [
        ("expect", 1),  # the dense layer in front does not wait
        ("request", 1),
        ("expect", 2),
        ("expect", 2),
        ("request", 2),
        ("expect", 3),
        ("expect", 3),
        ("request", 3),
    ]


def test_the_guess_is_the_next_routers_choice_for_what_the_layer_gives(folder: Path) -> None:
    listener = Listener()
    _, model = looking_ahead(folder, listener, waits=False)
    x = np.random.default_rng(5).standard_normal((3, model.config.hidden_size)).astype(np.float32)
    model.lookahead(1, x, IS_DECODED)
    block = model.layers[2]
    ids, _ = block.mlp.gate(block.post_attention_layernorm(x), IS_DECODED)
    ((_, layer, guessed),) = listener.told
    assert layer == 2
    np.testing.assert_array_equal(guessed, ids)


def test_the_guess_is_made_among_what_a_mask_keeps(folder: Path) -> None:
    listener = Listener()
    _, model = looking_ahead(folder, listener, waits=False)
    x = np.random.default_rng(5).standard_normal((3, model.config.hidden_size)).astype(np.float32)
    mask = ExpertMask(profile_of(model.config, [0, 1, 4, 5, 10, 11, 12, 13]))
    masks = masks_of([mask, None], [2, 1])
    model.lookahead(1, x, IS_DECODED, masks)
    block = model.layers[2]
    ids, _ = block.mlp.gate(block.post_attention_layernorm(x), IS_DECODED, masks)
    ((_, _, guessed),) = listener.told
    np.testing.assert_array_equal(guessed, ids)
    kept = mask.kept(2)
    assert kept is not None
    assert kept[guessed[:2]].all()
    assert not kept[guessed[2]].all()


def test_nobody_is_asked_who_cannot_use_it(folder: Path) -> None:
    listener = Listener(is_curious=False)
    _, model = looking_ahead(folder, listener, waits=True)
    calls = []
    for block in model.layers[1:]:
        gate = block.mlp.gate
        choose = gate.choose
        gate.choose = lambda *x, choose=choose: calls.append(0) or choose(*x)
    model.forward(IDS, model.new_cache())
    assert not calls
    assert all(kind == "request" for kind, *_ in listener.told)


def test_behind_the_last_layer_nothing_is_foreseen(folder: Path) -> None:
    listener = Listener()
    _, model = looking_ahead(folder, listener, waits=False)
    x = np.zeros((1, model.config.hidden_size), np.float32)
    model.lookahead(3, x, IS_DECODED[:1])
    model.lookahead(7, x, IS_DECODED[:1])  # the MTP module's, or none
    assert listener.told == []


def test_ahead_of_a_layer_the_last_guess_is_right_where_attention_adds_nothing(folder: Path) -> None:
    """What is guessed is what the layer would choose; only attention stands between."""
    listener = Listener()
    _, model = looking_ahead(folder, listener, waits=True)
    silent = [replace(block, self_attn=lambda x, *rest: np.zeros_like(x)) for block in model.layers]
    replace(model, layers=silent).forward(IDS, model.new_cache())
    guesses = {layer: ids for kind, layer, ids in listener.told if kind == "expect"}
    for kind, layer, ids in listener.told:
        if kind == "request":
            np.testing.assert_array_equal(guesses[layer], ids)


def test_it_goes_on_to_the_layers_behind_as_long_as_that_helps(folder: Path) -> None:
    x = np.ones((1, load_model(folder).config.hidden_size), np.float32)
    for farthest in (1, 2):
        listener = Listener(farthest=farthest)
        _, model = looking_ahead(folder, listener, waits=False)
        model.lookahead(1, x, IS_DECODED[:1])
        assert [layer for _, layer, _ in listener.told] == [2, 3][:farthest]
