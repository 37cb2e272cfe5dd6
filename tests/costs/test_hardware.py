"""The table of hardware: every row has its source, a peak is no speed that is reached."""

from __future__ import annotations

import pytest

from araio.costs.hardware import find_hardware, known_hardware
from araio.errors import CostError


@pytest.mark.parametrize("name", known_hardware())
def test_every_row_is_whole_and_reaches_less_than_its_peak(name):
    row = find_hardware(name)
    assert row.source
    assert row.title
    assert 1e11 < row.bytes_per_s < 1e13
    assert 0 < row.idle_watts < row.watts
    assert row.memory_bytes is None or 2e10 < row.memory_bytes < 1e12
    assert set(row.reached) <= set(row.peak) <= {"bf16", "fp8"}
    for number, peak in row.peak.items():
        assert 0.5 * peak <= row.flops(number) < peak
    rates = row.rates()
    assert rates.bytes_per_s < row.bytes_per_s
    assert rates.knows_compute is bool(row.peak)


def test_what_somebody_measured_counts_and_elsewhere_a_stated_share():
    assert find_hardware("h100-sxm").flops("fp8") == 1403e12
    assert find_hardware("h800").flops("bf16") == 0.75 * 989e12
    assert find_hardware("mi300x").flops("fp8") == 0.55 * 2610e12
    assert find_hardware("a100").flops("fp8") is None
    assert find_hardware("a100").rates().product("fp8").cached.at(1) == 271e12


def test_several_devices_have_the_memory_of_all_and_lose_some_of_their_speed():
    one, eight = find_hardware("b200-sxm"), find_hardware(" 8xB200 ")
    assert eight.devices == 8
    assert eight.total_memory_bytes == 8 * 180e9
    assert eight.total_watts == 8000
    assert one.rates().bytes_per_s == 0.8 * 8e12
    assert eight.rates().bytes_per_s == pytest.approx(0.7 * 8 * 0.8 * 8e12)
    assert eight.rates().fixed.moe_layer > one.rates().fixed.moe_layer


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("m4maxx", "no hardware is called 'm4maxx'; did you mean m4-max"),
        ("h100", "did you mean h100-sxm or h100-pcie"),
        ("0xb200", "known: a100-sxm, .*m3-ultra, here"),
        ("", "no hardware is called ''"),
    ],
)
def test_an_unknown_name_is_told_what_is_known(name, found):
    with pytest.raises(CostError, match=found):
        find_hardware(name)
