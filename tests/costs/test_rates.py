"""Rates of a unit of work against the list of tensors."""

import math

import pytest

from araio.config import ModelConfig
from araio.costs.rates import Rates
from araio.costs.work import Work
from araio.formats.layout import expert_of, main_tensors, mtp_tensors
from araio.testing.checkpoints import FAMILIES, tiny_config
from araio.weights.locate import PRESETS

CONFIGS = {family: tiny_config(family) for family in FAMILIES} | {
    name: ModelConfig.from_file(path) for name, path in PRESETS.items()
}


def multiplications(config, tensors):
    """Numbers in all matrices, experts left out, and those in the experts."""
    dense = routed = 0
    for name, shape in tensors:
        if len(shape) < 2 or name == "model.embed_tokens.weight":
            continue
        if expert_of(name) is None:
            dense += math.prod(shape)
        else:
            routed += math.prod(shape)
    return dense, routed


@pytest.mark.parametrize("name", CONFIGS)
def test_a_token_is_multiplied_with_every_matrix_once(name):
    config = CONFIGS[name]
    rates = Rates.of_model(config)
    dense, routed = multiplications(config, main_tensors(config))
    assert rates.token + rates.expansion + rates.score == dense
    assert rates.expert * rates.experts == routed


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if config.mtp_layers])
def test_a_draft_is_multiplied_with_the_module_and_the_head(name):
    config = CONFIGS[name]
    rates, main = Rates.of_mtp(config), Rates.of_model(config)
    dense, routed = multiplications(config, mtp_tensors(config))
    assert rates.token + rates.expansion == dense
    assert rates.expert * rates.experts == routed
    assert (rates.score, rates.expert) == (main.score, main.expert)
    assert rates.absorbed_pair * config.num_hidden_layers == main.absorbed_pair


def test_the_first_of_several_modules_drafts():
    one = tiny_config("v3", num_nextn_predict_layers=1)
    assert Rates.of_mtp(tiny_config("v3", num_nextn_predict_layers=2)) == Rates.of_mtp(one)


def test_without_a_module_nothing_is_multiplied():
    rates = Rates.of_mtp(tiny_config("v2"))
    assert rates.flops(Work()) == 0
    assert (rates.token, rates.expansion, rates.absorbed_pair, rates.experts) == (0, 0, 0, 0)


def test_a_dense_model_of_the_same_size_uses_every_expert():
    config = ModelConfig.from_file(PRESETS["deepseek-r1"])
    rates, chosen = Rates.of_model(config), 58 * config.num_experts_per_tok
    work = Work(tokens=1, scores=1, absorbed=1, expert_uses=chosen)
    more = (58 * 256 - chosen) * 44_040_192
    assert rates.dense_flops(work) - rates.flops(work) == 2 * more
    # 671B parameters but the embedding's, the bias's and the norms'.
    assert rates.dense_flops(work) == pytest.approx(2 * (671_026_419_200 - 926_679_040), rel=1e-5)
