"""What is kept of a request's tokens has a bound, told before it runs."""

from dataclasses import replace

import pytest

from araio.config import ModelConfig
from araio.engine.kept import MOST_EXPERT_BYTES, MOST_LOGPROBS, check_kept
from araio.engine.request import SamplingParams
from araio.errors import RequestError
from araio.testing.checkpoints import tiny_config

SCORED = SamplingParams(max_tokens=1, prompt_logprobs=3)


@pytest.fixture
def config() -> ModelConfig:
    return tiny_config("v3")


def test_experts_are_kept_up_to_a_size(config: ModelConfig) -> None:
    position = len(config.moe_layers) * config.num_experts_per_tok * 8
    most = MOST_EXPERT_BYTES // position
    params = SamplingParams()
    check_kept(config, params, most - 10, 10, keeps_experts=True)
    check_kept(config, params, 100 * most, 10, keeps_experts=False)
    with pytest.raises(RequestError, match=rf"{most + 1} positions .* 64 MiB; .* at most {most} positions"):
        check_kept(config, params, most - 10, 11, keeps_experts=True)


def test_log_probabilities_are_kept_up_to_a_number(config: ModelConfig) -> None:
    most = MOST_LOGPROBS // 4
    check_kept(config, SCORED, most, 1, keeps_experts=False)
    check_kept(config, replace(SCORED, prompt_logprobs=None), 9 * most, 1, keeps_experts=False)
    with pytest.raises(RequestError, match=rf"a prompt of {most + 1} tokens with 3 alternatives"):
        check_kept(config, SCORED, most + 1, 1, keeps_experts=False)


def test_a_dense_model_has_no_experts_to_keep(config: ModelConfig) -> None:
    dense = replace(config, first_k_dense_replace=config.num_hidden_layers)
    check_kept(dense, SamplingParams(), 1 << 40, 1, keeps_experts=True)
