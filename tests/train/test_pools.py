"""Pools of experts: each document's own, against a loop that picks them one document at a time."""

import numpy as np
import pytest
import torch

from araio.testing.checkpoints import tiny_config
from araio.train.model import Router, SparseModel
from araio.train.pools import Pools, draw_pools

# Three documents in the first row, padding (which has numbers of its own) behind the two of the second.
DOCUMENTS = torch.tensor([[0, 0, 0, 3, 3, 3, 3, 7], [0, 0, 0, 0, 0, 5, 6, 7]])


def allowed_by_hand(choice, documents, per_group, n_group):
    """Which experts (B, T, E) each token may choose, by the definition."""
    B, T, E = choice.shape
    allowed = np.zeros((B, T, E), bool)
    for row in range(B):
        for token in range(T):
            own = documents[row] == documents[row, token]
            mean = choice[row][own].mean(0)
            for group in np.split(np.arange(E), n_group):
                best = sorted(group, key=lambda expert: -mean[expert])[: per_group[row, token]]
                allowed[row, token, best] = True
    return allowed


@pytest.mark.parametrize("n_group", [1, 2, 4])
def test_a_pool_holds_the_experts_that_a_document_would_choose_most(n_group):
    choice = torch.rand(2, 8, 16, generator=torch.Generator().manual_seed(n_group))
    pools = draw_pools(DOCUMENTS, (2 * n_group, 8), n_group, seed=1, step=n_group)
    restricted = pools.restrict(choice, n_group)
    expected = allowed_by_hand(choice.numpy(), DOCUMENTS.numpy(), pools.per_group.numpy(), n_group)
    np.testing.assert_array_equal((restricted > -1).numpy(), expected)
    assert torch.equal(restricted[restricted > -1], choice[restricted > -1])


def test_sizes_belong_to_documents_and_steps():
    drawn = [draw_pools(DOCUMENTS, (4, 16), 2, seed=1, step=step).per_group for step in range(40)]
    for sizes in drawn:
        for row, documents in zip(sizes, DOCUMENTS, strict=True):
            for document in documents.unique():
                assert len(row[documents == document].unique()) == 1
    assert {int(size) for sizes in drawn for size in sizes.flatten()} == set(range(2, 9))
    assert len({tuple(sizes.flatten().tolist()) for sizes in drawn}) > 30
    again = draw_pools(DOCUMENTS, (4, 16), 2, seed=1, step=7).per_group
    assert torch.equal(again, drawn[7])


def test_pools_that_hold_all_experts_change_nothing():
    config = tiny_config("v3")
    model = SparseModel(config)
    model.initialise(torch.Generator().manual_seed(0))
    tokens = torch.randint(0, config.vocab_size, DOCUMENTS.shape)
    every = Pools(DOCUMENTS, torch.full_like(DOCUMENTS, config.n_routed_experts // config.n_group))
    positions = torch.arange(8).expand_as(tokens)
    free, pooled = (model(tokens, DOCUMENTS, positions, pools=pools) for pools in (None, every))
    assert torch.equal(free.hidden, pooled.hidden)
    assert torch.equal(free.mtp_hidden, pooled.mtp_hidden)


@pytest.mark.parametrize("family", ["v2-lite", "v2", "v3"])
def test_a_token_chooses_from_its_documents_pool(family):
    config = tiny_config(family)
    router = Router(config)
    torch.nn.init.normal_(router.weight, generator=torch.Generator().manual_seed(1))
    if config.has_router_bias:
        router.e_score_correction_bias.normal_(generator=torch.Generator().manual_seed(2))
    groups = config.choice_groups
    smallest = max(config.num_experts_per_tok, 2) * groups
    pools = draw_pools(DOCUMENTS, (smallest, smallest), groups, seed=1, step=0)
    x = torch.randn(2, 8, config.hidden_size, generator=torch.Generator().manual_seed(3))
    weights, route = router(x, pools)
    assert torch.isfinite(weights).all()
    for row, documents in zip(route.ids, DOCUMENTS, strict=True):
        for document in documents.unique():
            used = row[documents == document].unique()
            per_group = torch.bincount(used // (config.n_routed_experts // groups), minlength=groups)
            assert (per_group <= smallest // groups).all()
