import pytest
import torch

from araio.testing.checkpoints import tiny_config
from araio.train.model import SparseModel
from araio.train.optim import Muon, build_optimizers, orthogonalise


def names_by_group(model, optimizers):
    """Names of the parameters of each group, with the class and the decay of the group."""
    name_of = {parameter: name for name, parameter in model.named_parameters()}
    return [
        (type(optimizer).__name__, group["weight_decay"], sorted(name_of[p] for p in group["params"]))
        for optimizer in optimizers
        for group in optimizer.param_groups
    ]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_in_exactly_one_group(name, tied):
    model = SparseModel(tiny_config("v3", tie_word_embeddings=tied))
    groups = names_by_group(model, build_optimizers(model, name, 0.0, 0.1, (0.9, 0.95)))
    everything = sorted(parameter for _, _, names in groups for parameter in names)
    assert everything == sorted(name for name, _ in model.named_parameters())


def test_muon_takes_the_matrices_and_leaves_tables_router_and_norms():
    model = SparseModel(tiny_config("v3"))
    groups = names_by_group(model, build_optimizers(model, "muon", 0.0, 0.1, (0.9, 0.95)))
    (kind, decay, matrices), (_, _, decayed), (_, no_decay, plain) = groups
    assert (kind, decay, no_decay) == ("Muon", 0.1, 0.0)
    assert "model.layers.1.mlp.experts.gate_proj" in matrices
    assert "model.layers.0.mlp.gate_proj.weight" in matrices
    assert "model.layers.3.eh_proj.weight" in matrices
    assert not [name for name in matrices if "norm" in name or name.endswith("mlp.gate.weight")]
    assert decayed == ["lm_head.weight", *(f"model.layers.{layer}.mlp.gate.weight" for layer in (1, 2, 3))]
    assert "model.embed_tokens.weight" in plain
    assert all("norm" in name for name in plain if name != "model.embed_tokens.weight")


@pytest.mark.parametrize("shape", [(8, 8), (6, 24), (24, 6), (3, 8, 12)], ids=str)
def test_orthogonalise_brings_singular_values_near_one_and_keeps_directions(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    nearest = orthogonalise(matrix).float()
    values = torch.linalg.svdvals(nearest)
    assert values.min() > 0.6
    assert values.max() < 1.3
    core = u.mT @ nearest @ vh.mT
    assert (core - torch.diag_embed(core.diagonal(dim1=-2, dim2=-1))).abs().max() < 0.05


def test_a_stack_of_matrices_is_orthogonalised_one_by_one():
    torch.manual_seed(1)
    stack = torch.randn(5, 12, 20) * torch.tensor([1e-4, 1.0, 3.0, 1e3, 0.0])[:, None, None]
    single = torch.stack([orthogonalise(matrix) for matrix in stack])
    torch.testing.assert_close(orthogonalise(stack), single, rtol=0, atol=0.03)
    assert not single[-1].any(), "no gradient, no direction"


def test_a_step_of_muon_is_the_documented_formula():
    torch.manual_seed(2)
    start = torch.randn(4, 6)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = Muon([parameter], lr=0.1, weight_decay=0.5, momentum=0.9)
    momentum, expected = torch.zeros(4, 6), start
    for _ in range(3):
        gradient = torch.randn(4, 6)
        parameter.grad = gradient.clone()
        optimizer.step()
        momentum = 0.9 * momentum + gradient
        direction = orthogonalise(gradient + 0.9 * momentum).float()
        expected = expected - 0.1 * (0.5 * expected + 0.2 * 6**0.5 * direction)
    torch.testing.assert_close(parameter.data, expected, rtol=1e-3, atol=1e-3)


def test_a_parameter_without_gradient_stands_still():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    Muon([parameter], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(parameter.data, torch.ones(2, 2))
