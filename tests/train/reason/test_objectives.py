"""The four objectives against cases worked out by hand, and their gradient against REINFORCE's."""

import math

import pytest
import torch

from araio.train.reason.objectives import (
    OBJECTIVES,
    group_advantages,
    k3,
    objective_named,
    surrogate,
)

# Two answers, of 1 and of 2 tokens, whose probabilities are now 1.5, 0.5 and 1.1 times what they were.
RATIOS = [1.5, 0.5, 1.1]
SEQUENCE = torch.tensor([0, 1, 1])
LENGTHS = torch.tensor([1, 2])
ADVANTAGES = torch.tensor([1.0, -2.0])
MOST_TOKENS = 4
# min(r A, clip(r) A): the first is cut at 1 + high, the second at 1 - low, the third is not.
BY_HAND = {
    "grpo": 1 / 2 * (1.2 * 1.0) + 1 / 4 * (0.8 * -2.0) + 1 / 4 * (1.1 * -2.0),
    "dr_grpo": 1 / 8 * (1.2 * 1.0 + 0.8 * -2.0 + 1.1 * -2.0),
    "dapo": 1 / 3 * (1.28 * 1.0 + 0.8 * -2.0 + 1.1 * -2.0),
    # The second sequence has the ratio (0.5 * 1.1) ** (1 / 2) in both tokens; both sequences are cut.
    "gspo": 1 / 2 * ((1 + 4e-4) * 1.0) + 1 / 2 * ((1 - 3e-4) * -2.0),
}


def worth(objective, log_ratios):
    weights = objective.weight(LENGTHS, MOST_TOKENS).float()
    return surrogate(objective, log_ratios, SEQUENCE, ADVANTAGES, LENGTHS, weights)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_three_tokens_by_hand(name):
    gain, is_clipped = worth(OBJECTIVES[name], torch.tensor(RATIOS).log())
    assert gain.item() == pytest.approx(BY_HAND[name], rel=1e-5)
    assert is_clipped.tolist() == ([True, True, True] if name == "gspo" else [True, True, False])


def test_an_unclipped_sequence_has_one_ratio_for_all_of_its_tokens():
    wide = objective_named("gspo", clip_low=0.9, clip_high=9.0)
    gain, is_clipped = worth(wide, torch.tensor(RATIOS).log())
    assert gain.item() == pytest.approx(1 / 2 * 1.5 + 1 / 2 * math.sqrt(0.55) * -2.0, rel=1e-5)
    assert not is_clipped.any()


def test_a_clip_cuts_only_what_would_go_further_the_same_way():
    # A good answer that became less likely, and a bad one that became likelier, must still be moved back.
    log_ratios = torch.tensor([0.5, 1.5, 1.5]).log().requires_grad_()
    gain, is_clipped = worth(OBJECTIVES["grpo"], log_ratios)
    gain.backward()
    assert not is_clipped.any()
    assert log_ratios.grad.tolist() == pytest.approx([1 / 2 * 0.5, -2 / 4 * 1.5, -2 / 4 * 1.5])
    log_ratios = torch.tensor(RATIOS).log().requires_grad_()
    gain, _ = worth(OBJECTIVES["grpo"], log_ratios)
    gain.backward()
    assert log_ratios.grad.tolist() == pytest.approx([0, 0, -2 / 4 * 1.1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_on_policy_the_gradient_is_that_of_reinforce(name):
    torch.manual_seed(0)
    logits = torch.randn(3, 5, requires_grad=True)
    labels = torch.tensor([[1], [4], [0]])
    logprobs = logits.log_softmax(-1).gather(-1, labels)[:, 0]
    gain, is_clipped = worth(OBJECTIVES[name], logprobs - logprobs.detach())
    (gradient,) = torch.autograd.grad(gain, logits)
    # REINFORCE: each token's log-probability times its advantage, here with the objective's own weights.
    weights = OBJECTIVES[name].weight(LENGTHS, MOST_TOKENS).float()[SEQUENCE]
    logprobs = logits.log_softmax(-1).gather(-1, labels)[:, 0]
    (expected,) = torch.autograd.grad((weights * ADVANTAGES[SEQUENCE] * logprobs).sum(), logits)
    torch.testing.assert_close(gradient, expected)
    assert not is_clipped.any()
    by_hand = {
        "grpo": [1 / 2, 1 / 4, 1 / 4],
        "dr_grpo": [1 / 8] * 3,
        "dapo": [1 / 3] * 3,
        "gspo": [1 / 2, 1 / 4, 1 / 4],
    }
    assert weights.tolist() == pytest.approx(by_hand[name])


def test_advantages_by_hand():
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5])
    assert group_advantages(rewards, False).tolist() == pytest.approx([0.5, -0.5, -0.5, 0.5, 0.0])
    deviation = math.sqrt((4 * 0.25) / 5)
    assert group_advantages(rewards, True)[0] == pytest.approx(0.5 / deviation)
    assert group_advantages(torch.ones(4), True).tolist() == [0, 0, 0, 0], "no division by nothing"


def test_k3_is_the_divergence_on_average_and_never_below_zero():
    policy = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    reference = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    estimates = k3(policy.log(), reference.log())
    assert (estimates >= 0).all()
    assert k3(policy.log(), policy.log()).tolist() == [0, 0, 0]
    exact = float((policy * (policy / reference).log()).sum())
    assert float((policy * estimates).sum()) == pytest.approx(exact, rel=1e-9)


def test_ratios_that_would_overflow_stay_numbers():
    gain, _ = worth(OBJECTIVES["grpo"], torch.tensor([500.0, -500.0, 500.0]))
    assert math.isfinite(gain.item())
    assert math.isfinite(k3(torch.tensor(-500.0), torch.tensor(0.0)).item())


def test_clips_of_a_recipe_replace_the_objective_s_own():
    assert objective_named("dapo").clip_high == 0.28
    assert objective_named("dapo", clip_high=10.0).clip_high == 10.0
    assert objective_named("dapo", clip_high=10.0).clip_low == 0.2
