import math

import pytest
import torch

from araio.testing.checkpoints import tiny_config
from araio.train.balance import LoadMeter, load_of, max_violation, relative_entropy, update_bias
from araio.train.model import Route, Router


def make_router(experts=4, chosen=1):
    sizes = {"n_routed_experts": experts, "num_experts_per_tok": chosen, "n_group": 1, "topk_group": 1}
    return Router(tiny_config("v3", **sizes))


def test_the_bias_of_a_busy_expert_goes_down_and_that_of_an_idle_one_up():
    router = make_router()
    update_bias(router, torch.tensor([10, 0, 5, 5]), speed=0.25)
    assert router.e_score_correction_bias.tolist() == [-0.25, 0.25, 0.0, 0.0]
    update_bias(router, torch.tensor([9, 0, 0, 0]), speed=0.0)
    assert router.e_score_correction_bias.tolist() == [-0.25, 0.25, 0.0, 0.0]


def test_padding_is_no_load():
    scores, ids = torch.rand(1, 3, 4), torch.tensor([[[0], [2], [3]]])
    route = Route(scores, ids)
    assert load_of(route, torch.tensor([[True, True, False, False]])).tolist() == [1, 0, 1, 0]


def test_the_bias_is_a_buffer_that_no_gradient_reaches():
    router = make_router()
    assert [name for name, _ in router.named_parameters()] == ["weight"]
    assert "e_score_correction_bias" in router.state_dict()


def test_moving_the_bias_balances_a_skewed_router():
    torch.manual_seed(4)
    router = make_router(experts=16, chosen=4)
    torch.nn.init.normal_(router.weight, std=0.1)
    # Tokens that share a direction prefer the same experts.
    x = torch.randn(1, 2000, 64) + 2 * torch.randn(64)
    is_token = torch.ones(1, 2000, dtype=torch.bool)

    def load():
        return load_of(router(x)[1], is_token)

    before = max_violation(load())
    for step in range(200):
        update_bias(router, load(), speed=0.02 * (1 - step / 200))
    after = max_violation(load())
    assert before > 1.0
    assert after < 0.1


@pytest.mark.parametrize(
    ("counts", "expected"), [([2, 2, 2, 2], 0.0), ([4, 0, 2, 2], 1.0), ([8, 0, 0, 0], 3.0), ([0, 0], -1.0)]
)
def test_max_violation_by_hand(counts, expected):
    assert max_violation(torch.tensor(counts)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([3, 3, 3, 3], 1.0), ([7, 0, 0, 0], 0.0), ([5, 5, 0, 0], 0.5), ([2, 1, 1, 0], 1.5 / math.log2(4))],
)
def test_relative_entropy_by_hand(counts, expected):
    assert relative_entropy(torch.tensor(counts)) == pytest.approx(expected)


def test_a_report_tells_single_batches_from_their_sum():
    meter = LoadMeter()
    meter.add([torch.tensor([4, 0]), torch.tensor([4, 0])])
    meter.add([torch.tensor([0, 4]), torch.tensor([4, 0])])
    report = meter.take()
    assert report.max_violation_batch == pytest.approx(1.0)
    assert report.max_violation_global == pytest.approx(0.5)  # the first layer's sum is even
    assert report.worst_layer == pytest.approx(1.0)
    assert report.entropy == pytest.approx(0.5)
    assert report.dead_experts == 1


def test_a_report_starts_anew_and_bears_layers_that_end_early():
    meter = LoadMeter()
    meter.add([torch.tensor([4, 0])])
    meter.take()
    meter.add([torch.tensor([2, 2]), torch.tensor([0, 4])])
    meter.add([torch.tensor([2, 2])])  # a stage without an MTP loss
    report = meter.take()
    assert report.max_violation_global == pytest.approx(0.5)
    assert report.max_violation_batch == pytest.approx(0.25)
    assert report.dead_experts == 1
