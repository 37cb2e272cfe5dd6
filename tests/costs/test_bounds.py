"""Numbers that no training run, service or machine has are refused, by the name of the argument."""

from __future__ import annotations

import pytest

from araio.costs.dense import find_dense_model, standard_training_flops
from araio.costs.energy_models import ecologits_energy, joules_per_token, service_joules
from araio.costs.prices import stated_prices
from araio.costs.serving import ServiceDay, expert_exchange_s, experts_per_gpu, speculation_ceiling
from araio.costs.training import TrainingSpeed, gpu_hours_of_flops
from araio.errors import CostError

DAY = ServiceDay(nodes=2, gpus_per_node=8, prompt=10, cached=20, output=30)


@pytest.mark.parametrize(
    ("ask", "found"),
    [
        (lambda: find_dense_model("llama"), "no dense model is called 'llama'; .*known: qwen2.5-72b, "),
        (lambda: find_dense_model("qwen2.5-72b").decode_flops(0), "context is 0"),
        (lambda: find_dense_model("qwen2.5-72b").decode_bytes(0, 1, 8), "batch is 0"),
        (lambda: find_dense_model("qwen2.5-72b").training_flops(-1), "length is -1"),
        (lambda: standard_training_flops(0, 1, 1), "layers is 0"),
        (lambda: TrainingSpeed.of_steps(8, 1, 1, 0), "step_s is 0; expected a number above zero"),
        (lambda: TrainingSpeed.of_steps(0, 1, 1, 1), "gpus is 0"),
        (lambda: gpu_hours_of_flops(1, 0), "flops_per_gpu is 0"),
        (lambda: DAY.rent(-2), "per_gpu_hour is -2"),
        (lambda: DAY.revenue(stated_prices(1, 1)), "cached is 20, more than the 10"),
        (lambda: DAY.nodes_needed(1, 0), "output_per_s is 0"),
        (lambda: experts_per_gpu(256, 32, 0), "gpus is 0"),
        (lambda: expert_exchange_s(61, 7168, 9, 32, 0), "bytes_per_s is 0"),
        (lambda: speculation_ceiling(1.5), "acceptance is 1.5; expected a share from 0 to 1"),
        (lambda: ecologits_energy(1e9, 2e9), "active is 2e.09 of 1e.09 parameters"),
        (lambda: ecologits_energy(1e9, 1e9, batch=0), "batch is 0"),
        (lambda: joules_per_token(700, 0), "tokens_per_s is 0"),
        (lambda: service_joules(1, accelerator_share=0), "accelerator_share is 0"),
        (lambda: service_joules(1, accelerator_share=1.1), "accelerator_share is 1.1"),
    ],
)
def test_what_is_refused(ask, found):
    with pytest.raises(CostError, match=found):
        ask()


def test_a_small_model_takes_one_gpu():
    assert ecologits_energy(7e9, 7e9).gpus == 1
