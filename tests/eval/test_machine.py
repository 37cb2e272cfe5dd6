"""This machine's measurement: whole, remembered, and done again when it is of another machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from araio.codecs import CODECS
from araio.costs.machine import Machine
from araio.costs.roofline import decode_timing, prefill_timing
from araio.costs.speeds import Attention, Curve, Product, Speeds
from araio.costs.tiers import Load
from araio.errors import CostError, KernelError
from araio.eval import disk, machine
from araio.eval.disk import disk_speed
from araio.eval.machine import cache_file, this_machine
from araio.kernels.select import select
from araio.testing.checkpoints import tiny_config

RATES = Speeds(
    1e9, {"q8": Product(Curve((1.0, 2.0), (1e9, 2e9)), Curve.flat(1e8))}, Attention(Curve.flat(1e9), 1e9)
)


@pytest.fixture
def quick(monkeypatch):
    """Small matrices and single rounds: whether the numbers are good is no matter of a test."""
    for name, value in {
        "ROWS": 128, "COLUMNS": 128, "SHORT": 64, "STREAMED_BYTES": 1 << 17, "MIDDLE": 1 << 16,
        "NEAR": 128, "FAR": 256, "PROMPT": 16, "ROUNDS": 1, "ROUND_S": 0.0002,
    }.items():  # fmt: skip
        monkeypatch.setattr(machine, name, value)
    monkeypatch.setattr(machine, "usable_processors", lambda: 2)
    monkeypatch.setattr(machine, "read_bandwidth", lambda threads: 1e10)
    monkeypatch.setattr(disk, "FILE_BYTES", 16 << 20)


@pytest.mark.native
def test_a_machine_is_measured_once_for_each_number_of_threads(quick, tmp_path):
    file, steps = tmp_path / "deep" / "machine.json", []
    first = this_machine(1, file=file, on_step=steps.append)
    assert set(first.rates) == {1}
    assert set(first.rates[1].products) == set(CODECS)
    assert steps[0] == "disk"
    assert "attention" in steps
    assert this_machine(1, file=file, on_step=lambda what: pytest.fail(what)) == first
    steps.clear()
    both = this_machine(2, file=file, on_step=steps.append)
    assert set(both.rates) == {1, 2}
    assert both.rates[1] == first.rates[1]
    assert "disk" not in steps
    again = this_machine(1, file=file, measure_again=True)
    assert set(again.rates) == {1}
    select()  # the process' own number of threads


@pytest.mark.native
@pytest.mark.parametrize("content", [b"", b"{}", b'{"form": 0}', b"[1]", b"\xff"])
def test_what_cannot_be_read_is_measured_again(quick, tmp_path, content):
    file = tmp_path / "machine.json"
    file.write_bytes(content)
    found = this_machine(1, file=file)
    assert Machine.from_json(file.read_bytes()) == found
    select()


@pytest.mark.native
def test_another_machine_is_measured_again(quick, tmp_path):
    file = tmp_path / "machine.json"
    own = this_machine(1, file=file)
    file.write_text(replace(own, processor="another", rates={1: RATES}).to_json())
    assert this_machine(1, file=file).rates[1].products.keys() == CODECS.keys()
    select()


@pytest.mark.native
def test_what_is_measured_predicts_every_family(quick, tmp_path):
    rates = this_machine(1, file=tmp_path / "machine.json").rates[1]
    for family in ("v2-lite", "v3", "v3-fp8"):
        config = tiny_config(family)
        assert decode_timing(config, rates, Load(batch=2, context=32)).seconds > 0
        assert prefill_timing(config, rates, Load(prompt=32)).seconds > 0
    select()


@pytest.mark.native
def test_what_cannot_be_kept_or_run_is_not_measured(quick, tmp_path):
    (tmp_path / "file").touch()
    steps = []
    with pytest.raises(CostError, match=r"cannot be kept there .*XDG_CACHE_HOME"):
        this_machine(1, file=tmp_path / "file" / "machine.json", on_step=steps.append)
    with pytest.raises(KernelError, match="3 threads cannot be measured: this machine has 2 processors"):
        this_machine(3, file=tmp_path / "machine.json", on_step=steps.append)
    assert not steps
    select()


def test_numpy_is_not_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("ARAIO_KERNELS", "reference")
    monkeypatch.setattr(machine, "select", lambda backend, threads: select())
    with pytest.raises(KernelError, match="cannot be measured"):
        this_machine(file=tmp_path / "machine.json")


def test_a_document_comes_back_as_it_was():
    found = Machine("a processor", "compiled for avx2", "2026-01-01", 1 << 33, {1: RATES, 8: RATES}, 1e9)
    assert Machine.from_json(found.to_json().encode()) == found


def test_a_document_with_a_wrong_number_is_refused():
    found = Machine("a processor", "compiled for avx2", "2026-01-01", 1 << 33, {1: RATES})
    for old, new in (
        ("1000000000.0", "-1.0"),
        ('"prompt": 1000000000.0', '"prompt": 0.0'),
        (str(1 << 33), '"much"'),
        ('"disk_bytes_per_s": null', '"disk_bytes_per_s": "fast"'),
        ('"products"', '"product"'),
        ('"1": {', '"x": {'),
    ):
        with pytest.raises(CostError):
            Machine.from_json(found.to_json().replace(old, new).encode())


def test_the_cache_folder_follows_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_file() == tmp_path / "araio" / "machine.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    assert cache_file().is_absolute()


def test_the_disk_of_a_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(disk, "FILE_BYTES", 16 << 20)
    speed = disk_speed(tmp_path)
    assert speed is None or speed > 0
    assert not list(tmp_path.iterdir())
    with pytest.raises(CostError, match="cannot be measured"):
        disk_speed(tmp_path / "missing")
