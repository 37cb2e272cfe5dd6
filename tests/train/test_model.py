"""The differentiable model against `nn/`, against its own slow definition, and against brute force."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from araio.config import ModelConfig
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import expected_tensors
from araio.kernels import reference
from araio.kernels.widen import widen
from araio.nn.model import Model
from araio.testing.checkpoints import tiny_config, write_tiny_checkpoint
from araio.train.checkpoint import load_tensors
from araio.train.model import GroupedExperts, Router, SparseModel
from araio.weights.load import load_model


@dataclass(frozen=True)
class Pair:
    """One checkpoint in both runtimes."""

    config: ModelConfig
    reference: Model
    model: SparseModel

    def ids(self, count):
        return np.random.default_rng(count).integers(0, self.config.vocab_size, count)


def make_pair(folder, family, **overrides):
    config = write_tiny_checkpoint(folder, family, seed=2, **overrides)
    with Checkpoint.open(folder) as checkpoint:
        tensors = {
            name: torch.from_numpy(widen(checkpoint.read_weight(name))) for name in expected_tensors(config)
        }
    model = SparseModel(config)
    load_tensors(model, tensors)
    return Pair(config, load_model(folder), model)


# The families, and what DeepSeek's two routers do with one expert per token and with `norm_topk_prob`.
ONE = {"num_experts_per_tok": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5}
PAIRS = {
    "v2-lite": ("v2-lite", {}),
    "v2": ("v2", {}),
    "v3": ("v3", {}),
    "v2-lite, normalised": ("v2-lite", ONE | {"num_experts_per_tok": 2}),
    "v2-lite, one expert": ("v2-lite", ONE),
    "v2, one expert": ("v2", ONE),
    "v3, one expert": ("v3", ONE),
    "v3, one expert, not normalised": ("v3", ONE | {"norm_topk_prob": False}),
}


@pytest.fixture(scope="module", params=PAIRS.values(), ids=PAIRS)
def pair(request, tmp_path_factory):
    family, overrides = request.param
    return make_pair(tmp_path_factory.mktemp(family), family, **overrides)


@pytest.fixture(scope="module")
def v3(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("v3"), "v3")


def documents_of(model, *documents, padding=0):
    """Documents packed into one row, each from position 0; padding tokens are documents of their own."""
    tokens = torch.cat([*documents, torch.zeros(padding, dtype=torch.int64)])[None]
    numbers = [torch.full((len(document),), i) for i, document in enumerate(documents)]
    owner = torch.cat([*numbers, torch.arange(padding) + len(documents)])[None]
    places = [torch.arange(len(document)) for document in documents]
    positions = torch.cat([*places, torch.zeros(padding, dtype=torch.int64)])[None]
    with torch.no_grad():
        return model(tokens, owner, positions)


# ------------------------------------------------------------------ parity with nn/


def test_logits_are_those_of_the_runtime_without_torch(pair):
    ids = pair.ids(100)
    assert len(ids) > 3 * pair.config.rope_scaling.original_max_position_embeddings
    expected = pair.reference.logits(pair.reference.forward(ids, pair.reference.new_cache("float32")))
    with torch.no_grad():
        logits = pair.model.logits(torch.from_numpy(ids)[None])[0].numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_routers_weigh_as_the_runtime_without_torch_does(pair):
    config = pair.config
    router = pair.model.routers()[0]
    x = torch.from_numpy(
        np.random.default_rng(4).standard_normal((40, config.hidden_size)).astype(np.float32)
    )
    with torch.no_grad():
        weights, route = router(x[None])
        logits = (x @ router.weight.T).numpy()
    bias = router.e_score_correction_bias.numpy() if config.has_router_bias else None
    ids, expected = reference.route(logits, bias, config)
    np.testing.assert_array_equal(route.ids[0].numpy(), ids)
    np.testing.assert_allclose(weights[0].numpy(), expected, rtol=1e-5)


def test_mtp_states_are_those_of_the_runtime_without_torch(v3):
    ids = v3.ids(60)
    mtp = v3.reference.mtp
    hidden = v3.reference.forward(ids, v3.reference.new_cache("float32"))
    expected = mtp.forward(ids[1:], hidden[:-1], mtp.new_cache("float32"))
    output = documents_of(v3.model, torch.from_numpy(ids))
    np.testing.assert_allclose(output.mtp_hidden[0].numpy(), expected, rtol=0, atol=1e-4)


def test_a_plain_rotary_table_is_that_of_the_runtime_without_torch(tmp_path):
    config = write_tiny_checkpoint(tmp_path, "v3", rope_scaling=None)
    frequencies = SparseModel(config).rotary.frequency.numpy()
    np.testing.assert_allclose(frequencies, load_model(tmp_path).rotary.inverse_frequencies, rtol=1e-6)


# ------------------------------------------------------------------ packing


def test_a_packed_document_has_the_states_it_has_alone(v3):
    lengths = (9, 1, 40, 3)
    documents = [torch.from_numpy(v3.ids(length)) for length in lengths]
    packed = documents_of(v3.model, *documents, padding=5)
    start = 0
    for document in documents:
        alone = documents_of(v3.model, document, padding=1)
        T = len(document)
        states = packed.hidden[:, start : start + T]
        torch.testing.assert_close(states, alone.hidden[:, :T], rtol=0, atol=1e-5)
        # The last position of a document has no next token of its own, so its MTP state means nothing.
        states = packed.mtp_hidden[:, start : start + T - 1]
        torch.testing.assert_close(states, alone.mtp_hidden[:, : T - 1], rtol=0, atol=1e-5)
        start += T


def test_no_gradient_crosses_documents(v3):
    embedding = v3.model.model.embed_tokens.weight
    first, second = torch.arange(10, 20), torch.arange(30, 45)
    tokens = torch.cat([first, second])[None]
    owner = torch.tensor([[0] * 10 + [1] * 15])
    positions = torch.cat([torch.arange(10), torch.arange(15)])[None]
    output = v3.model(tokens, owner, positions)
    pulled = output.hidden[0, 10:, 0].sum() + output.mtp_hidden[0, 10:, 0].sum()
    (gradient,) = torch.autograd.grad(pulled, embedding)
    assert gradient[second].any(dim=1).all()
    assert not gradient[first].any()


# ------------------------------------------------------------------ experts


@pytest.mark.parametrize("used", [4, 9, 16], ids=lambda used: f"{used}-of-16-experts")
def test_grouped_experts_are_the_loop_over_experts(used):
    torch.manual_seed(used)
    config = tiny_config("v3")
    K = config.num_experts_per_tok
    experts = GroupedExperts(config)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x_TD = torch.randn(83, config.hidden_size, requires_grad=True)
    weights_TK = torch.rand(83, K, requires_grad=True)
    ids_TK = torch.stack([torch.randperm(used)[:K] for _ in range(83)])
    pull_TD = torch.randn(83, config.hidden_size)
    inputs = [x_TD, weights_TK, *experts.parameters()]

    grouped = experts(x_TD, weights_TK, ids_TK)
    looped = experts.forward_reference(x_TD, weights_TK, ids_TK)
    torch.testing.assert_close(grouped, looped, rtol=0, atol=1e-5)
    gradients = torch.autograd.grad((grouped * pull_TD).sum(), inputs)
    expected = torch.autograd.grad((looped * pull_TD).sum(), inputs)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-5, atol=1e-5)
    for gradient in gradients[2:]:
        assert not gradient[used:].any(), "an expert without tokens learned something"


# ------------------------------------------------------------------ router


def make_router(**overrides):
    torch.manual_seed(0)
    router = Router(tiny_config("v3", **overrides))
    torch.nn.init.normal_(router.weight, std=0.3)
    return router, torch.randn(1, 50, router.config.hidden_size)


def test_the_bias_moves_the_choice_and_never_the_weights():
    router, x = make_router(n_group=1, topk_group=1)
    favoured = torch.tensor([1, 5, 6, 11])
    router.e_score_correction_bias[favoured] = 10.0
    weights, route = router(x)
    assert torch.equal(route.ids.sort(-1).values, favoured.expand_as(route.ids))
    scores = (x @ router.weight.T).sigmoid().gather(-1, route.ids)
    expected = scores / scores.sum(-1, keepdim=True) * router.config.routed_scaling_factor
    torch.testing.assert_close(weights, expected)
    router.e_score_correction_bias[favoured] = 20.0
    assert torch.equal(router(x)[0].sort().values, weights.sort().values)


def test_only_experts_of_the_best_groups_are_chosen_when_every_biased_score_is_negative():
    router, x = make_router()
    router.e_score_correction_bias.fill_(-5.0).add_(0.1 * torch.randn(16))
    _, route = router(x)
    cfg = router.config
    biased = route.scores[0].detach() + router.e_score_correction_bias
    assert biased.max() < 0
    for token, ids in enumerate(route.ids[0].tolist()):
        groups = biased[token].view(cfg.n_group, -1)
        group_scores = groups.sort(descending=True).values[:, :2].sum(1)
        best = group_scores.argsort(descending=True)[: cfg.topk_group].tolist()
        allowed = [expert for expert in range(16) if expert // groups.shape[1] in best]
        expected = sorted(allowed, key=lambda expert: -biased[token, expert])[: cfg.num_experts_per_tok]
        assert sorted(ids) == sorted(expected)


def test_the_router_stays_in_float32_whatever_the_model_computes_in():
    model = SparseModel(tiny_config("v3"), torch.bfloat16)
    model.initialise(torch.Generator().manual_seed(0))
    output = documents_of(model, torch.arange(12))
    assert output.hidden.dtype == torch.bfloat16
    assert {route.scores.dtype for route in output.routes} == {torch.float32}


def test_routers_come_in_the_order_of_the_routes(v3):
    inputs = {}
    for router in v3.model.routers():
        router.register_forward_hook(lambda module, _, output: inputs.update({module: output[1]}))
    output = documents_of(v3.model, torch.from_numpy(v3.ids(8)))
    seen = [inputs[router] for router in v3.model.routers()]
    assert [id(route) for route in seen] == [id(route) for route in output.routes]
    assert len(seen) == len(v3.config.moe_layers) + 1
