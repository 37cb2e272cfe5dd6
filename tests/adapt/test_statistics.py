"""What is added up for experts, against a loop over tokens; and that looking changes no bit."""

import numpy as np
import pytest

import araio
from araio.adapt.statistics import SUMS, ExpertStatistics, observe, turn
from araio.errors import RequestError
from araio.nn.moe import MoE
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.load import Memory, open_with_places


@pytest.fixture(scope="module", params=["v2", "v3"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_tiny_checkpoint(folder, request.param)
    return araio.load(folder)


@pytest.fixture(scope="module")
def ids(model):
    return np.random.default_rng(0).integers(0, model.config.vocab_size, 25)


def routed_parts(model):
    blocks = [*model.network.layers, *([model.network.mtp.block] if model.network.mtp else [])]
    return [block.mlp for block in blocks if isinstance(block.mlp, MoE)]


def recorded(model, ids):
    """What an observer of the main model is told in one pass, by layer."""
    seen = {}
    for part in routed_parts(model):
        part.observer = lambda layer, *arrays: seen.setdefault(layer, arrays)
    try:
        logits = model.logits(ids)
    finally:
        for part in routed_parts(model):
            part.observer = None
    return logits, seen


def test_an_observed_pass_gives_the_same_bits(model, ids):
    logits, seen = recorded(model, ids)
    assert list(seen) == list(model.config.moe_layers)
    np.testing.assert_array_equal(logits, model.logits(ids))


def test_what_was_added_is_the_weighted_sum_of_the_answers(model, ids):
    _, seen = recorded(model, ids)
    for _, weights, answers, _, added in seen.values():
        expected = (weights[:, :, None].astype(np.float64) * answers).sum(axis=1)
        np.testing.assert_allclose(added, expected, rtol=1e-4, atol=1e-5)


def test_the_observer_sees_the_routes(model, ids):
    _, seen = recorded(model, ids)
    chosen, weights = model.route(ids)
    for place, layer in enumerate(model.config.moe_layers):
        np.testing.assert_array_equal(seen[layer][0], chosen[:, place])
        np.testing.assert_array_equal(seen[layer][1], weights[:, place])


def test_sums_are_those_of_a_loop_over_tokens(model, ids):
    _, seen = recorded(model, ids[:-1])
    statistics = observe(model, ids).rows(model.config.moe_layers)
    assert (statistics.sequences, statistics.tokens) == (1, len(ids) - 1)
    expected = ExpertStatistics.empty(statistics.layers, model.config.n_routed_experts)
    for place, (chosen, weights, answers, residual, added) in enumerate(seen.values()):
        for token in range(len(ids) - 1):
            before = residual[token].astype(float)
            after = before + added[token]
            cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
            for expert, gate, answer in zip(chosen[token], weights[token], answers[token], strict=True):
                at, norm = (place, expert), np.linalg.norm(answer.astype(float))
                expected.chosen[at] += 1
                expected.gate[at] += gate
                expected.norm[at] += norm
                expected.gated[at] += gate * norm
                expected.turned[at] += max(0.0, 1 - cosine) * gate * norm
                expected.opening[at] += token < 2
                expected.largest[at] = max(expected.largest[at], abs(answer).max())
    for name in SUMS:
        np.testing.assert_allclose(getattr(statistics, name), getattr(expected, name), rtol=1e-9, atol=1e-12)


def test_every_token_counts_its_experts(model, ids):
    statistics = observe(model, ids)
    total = model.config.num_experts_per_tok * (len(ids) - 1)
    assert (statistics.chosen.sum(axis=1) == total).all()
    assert (statistics.opening.sum(axis=1) == 2 * model.config.num_experts_per_tok).all()


def test_the_prediction_module_is_a_layer_of_its_own(model, ids):
    layers = observe(model, ids).layers
    behind = [model.config.num_hidden_layers] if model.network.mtp else []
    assert list(layers) == [*model.config.moe_layers, *behind]


def test_pieces_of_a_long_sequence_add_up(model, monkeypatch, ids):
    whole = observe(model, ids)
    monkeypatch.setattr("araio.api.model.PREFILL_CHUNK", 7)
    pieces = observe(model, ids)
    for name in SUMS:
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-4, atol=1e-5)


def test_two_sequences_add_up(model, ids):
    first, second = observe(model, ids), observe(model, ids[::-1])
    both = first + second
    assert (both.sequences, both.tokens) == (2, 2 * (len(ids) - 1))
    np.testing.assert_array_equal(both.gate, first.gate + second.gate)
    np.testing.assert_array_equal(both.largest, np.maximum(first.largest, second.largest))


def test_nobody_watches_afterwards(model, ids):
    observe(model, ids)
    with pytest.raises(RequestError):
        observe(model, ids[:1])
    assert [part.observer for part in routed_parts(model)] == [None] * len(routed_parts(model))


def test_experts_from_disk_are_seen_the_same(tmp_path):
    write_tiny_checkpoint(tmp_path, "v3", num_nextn_predict_layers=0)
    model = araio.load(tmp_path)
    ids = np.random.default_rng(1).integers(0, model.config.vocab_size, 40)
    expected = observe(model, ids)
    model.network, experts = open_with_places(
        tmp_path, 10, model.network.ops, Memory(gives_way=False, remembers=False)
    )
    found = observe(model, ids)
    assert experts.counters.reads > 10
    for name in SUMS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(
    ("added", "expected"), [([2.0, 0.0], 0.0), ([-1.0, 1.0], 1.0), ([-2.0, 0.0], 2.0), ([0.0, 0.0], 0.0)]
)
def test_how_far_a_token_is_turned(added, expected):
    residual = np.array([[1.0, 0.0]], np.float32)
    assert turn(residual, np.array([added], np.float32))[0] == pytest.approx(expected)
