import pytest
import torch
import torch.nn.functional as F

from araio.testing.checkpoints import tiny_config
from araio.train.data import IGNORE, Batch
from araio.train.loss import compute_loss, mtp_labels, sequence_balance_loss
from araio.train.model import Route, SparseModel


def make_route(scores, ids):
    return Route(torch.tensor(scores), torch.tensor(ids))


def balance_of(route, config, is_token=None):
    """The balance loss of a batch, of which every position is a token unless told."""
    if is_token is None:
        is_token = torch.ones(route.scores.shape[:2], dtype=torch.bool)
    return sequence_balance_loss(route, is_token, config)


def make_config(experts, chosen):
    sizes = {"n_routed_experts": experts, "num_experts_per_tok": chosen, "n_group": 1, "topk_group": 1}
    return tiny_config("v3", **sizes)


@pytest.fixture(scope="module")
def model():
    model = SparseModel(tiny_config("v3"))
    model.initialise(torch.Generator().manual_seed(1), std=0.1)
    return model


@pytest.fixture
def batch():
    """Two documents and a padding token in one row; of the first, two tokens are a question."""
    tokens = torch.tensor([[0, 10, 11, 12, 1, 0, 20, 21, 1, 2]])
    labels = torch.tensor([[IGNORE, 11, 12, 1, IGNORE, 20, 21, 1, IGNORE, IGNORE]])
    documents = torch.tensor([[0, 0, 0, 0, 0, 5, 5, 5, 5, 9]])
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 0]])
    return Batch(tokens, labels, documents, positions, tokens != 2)


def test_the_balance_loss_is_one_where_every_expert_is_used_alike():
    scores = torch.full((2, 4, 4), 0.3).tolist()
    ids = [[[0, 1], [2, 3], [0, 2], [1, 3]]] * 2
    loss = balance_of(make_route(scores, ids), make_config(4, 2))
    assert loss.item() == pytest.approx(1.0)


def test_the_balance_loss_is_what_the_formula_gives_by_hand():
    # P = (0.75 + 0.5) / 2, (0.25 + 0.5) / 2; both tokens chose expert 0, so f = 2 / (1 * 2) * (2, 0).
    row = [[0.75, 0.25], [0.5, 0.5]]
    config = make_config(2, 1)
    assert balance_of(make_route([row], [[[0], [0]]]), config).item() == pytest.approx(1.25)
    # Scores are shares, so their scale does not matter. The second row gives 2 * 0.375.
    doubled = [[1.5, 0.5], [1.0, 1.0]]
    both = make_route([doubled, row], [[[0], [0]], [[1], [1]]])
    assert balance_of(both, config).item() == pytest.approx((1.25 + 0.75) / 2)


def test_the_balance_loss_looks_at_single_sequences():
    # Each row prefers another expert: the batch is balanced, no sequence is.
    scores = [[[0.9, 0.1]] * 2, [[0.1, 0.9]] * 2]
    route = make_route(scores, [[[0], [0]], [[1], [1]]])
    assert balance_of(route, make_config(2, 1)).item() == pytest.approx(1.8)


def test_padding_does_not_count_in_the_balance_loss():
    # Twelve balanced tokens, then padding that always chooses expert 0 and scores it high.
    tokens, pads = [[0.5] * 4] * 12, [[0.9, 0.1, 0.1, 0.1]] * 4
    ids = [[0], [1], [2], [3]] * 3 + [[0]] * 4
    row = torch.tensor([[True] * 12 + [False] * 4])
    config = make_config(4, 1)
    assert balance_of(make_route([tokens + pads], [ids]), config).item() > 1.1
    assert balance_of(make_route([tokens + pads], [ids]), config, row).item() == pytest.approx(1.0)
    # A row of padding alone is no sequence; an MTP route is one position shorter than the batch.
    both = make_route([tokens + pads, pads * 4], [ids, [[0]] * 16])
    is_token = torch.cat([row, torch.zeros(1, 16, dtype=torch.bool)])
    assert balance_of(both, config, is_token).item() == pytest.approx(1.0)
    longer = torch.nn.functional.pad(is_token, (0, 1))
    assert balance_of(both, config, longer).item() == pytest.approx(1.0)


def test_the_gradient_of_the_balance_loss_lowers_the_busy_expert():
    route = make_route([[[0.75, 0.25], [0.5, 0.5]]], [[[0], [0]]])
    route.scores.requires_grad_()
    balance_of(route, make_config(2, 1)).backward()
    assert (route.scores.grad[..., 0] > 0).all()
    assert (route.scores.grad[..., 1] < 0).all()


def test_mtp_labels_are_the_tokens_after_the_next_and_never_of_another_document(batch):
    assert mtp_labels(batch).tolist() == [
        [11, 12, 1, IGNORE, IGNORE, 21, 1, IGNORE, IGNORE]  # the first sees "10" next and learns "11"
    ]


def test_the_total_is_the_weighted_sum_of_plain_cross_entropies(model, batch):
    loss = compute_loss(model, batch, mtp_weight=0.3, balance_weight=0.01)
    output = model(batch.tokens, batch.documents, batch.positions)
    next_token = F.cross_entropy(model.lm_head(output.hidden)[0], batch.labels[0])
    mtp = F.cross_entropy(model.lm_head(output.mtp_hidden)[0], mtp_labels(batch)[0])
    balance = sum(sequence_balance_loss(route, batch.is_token, model.config) for route in output.routes)
    torch.testing.assert_close(loss.next_token, next_token)
    torch.testing.assert_close(loss.mtp, mtp)
    torch.testing.assert_close(loss.total, next_token + 0.3 * mtp + 0.01 * balance)
    assert len(loss.routes) == 3


def test_an_mtp_module_without_weight_is_not_computed(model, batch):
    loss = compute_loss(model, batch, mtp_weight=0.0, balance_weight=0.0)
    assert (loss.mtp.item(), loss.balance.item(), len(loss.routes)) == (0.0, 0.0, 2)
    assert torch.equal(loss.total, loss.next_token)
