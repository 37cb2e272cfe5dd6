"""What an approximation costs: measured, told in a line, remembered, and measured again where it must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import araio
from araio.errors import GenerationError
from araio.eval import approximation as measuring
from araio.eval.approximation import ApproximationCost, approximation_cost, measure_approximation
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import load

COST = ApproximationCost("top-4", 96, 0.0432, 0.93, 0.312, from_disk=True)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "araio" / "approximations"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_checkpoint(folder, "v3")
    return folder


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Gives models that are loaded from now on so many places for experts, whatever the machine has."""
    split = load.split
    return lambda slots: monkeypatch.setattr(
        load, "split", lambda *needs: replace(split(*needs), slots=slots)
    )


def test_the_line() -> None:
    assert COST.text == (
        "approximate (top-4): KL 0.043 nats, first choice kept 93% (measured on 96 tokens); "
        "read 31% less from disk"
    )
    assert replace(COST, read_less=-0.02).text.endswith("; read 2% more from disk")
    assert replace(COST, from_disk=False).text.endswith("; read 31% less of memory")
    assert replace(COST, read_less=None).text.endswith("(measured on 96 tokens)")


def test_in_memory_it_is_the_distance_of_the_two_and_what_is_not_read(folder: Path) -> None:
    model = araio.load(folder, approximate="top-1")
    cost = measure_approximation(model)
    assert (cost.name, cost.tokens, cost.from_disk) == ("top-1", 96, False)
    assert cost.mean_kl > 0
    assert 0 <= cost.agreement < 1
    held, config = model.network.held, model.config
    experts = len(config.moe_layers) * held.expert
    exact = held.dense + held.head + held.row + config.num_experts_per_tok * experts
    assert cost.read_less == pytest.approx((config.num_experts_per_tok - 1) * experts / exact)
    assert measure_approximation(araio.load(folder, approximate="top-3")).mean_kl < cost.mean_kl


def test_the_model_is_as_it_was_before(folder: Path) -> None:
    model = araio.load(folder, approximate="top-2")
    before = model.network.approximation
    measure_approximation(model)
    assert all(router.approximation is before for router in model.network.routers)


def test_an_interruption_leaves_no_exact_model_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    model = araio.load(folder, approximate="top-2")
    monkeypatch.setattr(measuring, "_Pass", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measure_approximation(model)
    assert model.network.approximation is not None


def test_from_disk_less_is_read(folder: Path, places: Callable[[int], None]) -> None:
    places(12)
    cached, fewer = (
        measure_approximation(araio.load(folder, approximate=how)) for how in ("cached", "top-1")
    )
    for cost in (cached, fewer):
        assert cost.from_disk
        assert cost.read_less is not None
        assert cost.read_less > 0
    assert cached.mean_kl > 0


def test_where_all_fit_in_the_end_there_is_nothing_to_read_less_of(
    folder: Path, places: Callable[[int], None]
) -> None:
    places(1000)
    cost = measure_approximation(araio.load(folder, approximate="top-2"))
    assert cost.read_less is None
    assert cost.mean_kl > 0


def test_it_is_measured_once(folder: Path, cache_folder: Path) -> None:
    measured = []
    model = araio.load(folder, approximate="top-2")
    cost = approximation_cost(model, lambda: measured.append(1))
    assert approximation_cost(model, lambda: measured.append(2)) == cost
    assert approximation_cost(araio.load(folder, approximate="top-2"), lambda: measured.append(3)) == cost
    assert measured == [1]
    (path,) = cache_folder.iterdir()
    assert path.name.startswith("tiny-")
    assert json.loads(path.read_text())["mean_kl"] == cost.mean_kl


def test_another_approximation_or_another_model_is_measured_anew(
    folder: Path, cache_folder: Path, places: Callable[[int], None]
) -> None:
    approximation_cost(araio.load(folder, approximate="top-2"))
    approximation_cost(araio.load(folder, approximate="top-1"))
    config = folder / "config.json"
    config.write_bytes(config.read_bytes() + b"\n")
    approximation_cost(araio.load(folder, approximate="top-1"))
    places(12)  # other experts in memory, other reads
    approximation_cost(araio.load(folder, approximate="top-1"))
    assert len(list(cache_folder.iterdir())) == 4


@pytest.mark.parametrize(
    "damage", ["", "{}", '{"form": 0}', "[1]", '{"form": 1, "name": "top-2", "mean_kl": "much"}']
)
def test_a_damaged_file_is_measured_again(folder: Path, cache_folder: Path, damage: str) -> None:
    model = araio.load(folder, approximate="top-2")
    cost = approximation_cost(model)
    (path,) = cache_folder.iterdir()
    path.write_text(damage)
    assert approximation_cost(model) == cost
    assert json.loads(path.read_text())["form"] == 1


def test_a_cache_that_cannot_be_written_costs_a_note(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert approximation_cost(araio.load(folder, approximate="top-2")).mean_kl > 0
    assert "what was measured could not be kept" in capsys.readouterr().err


def test_what_is_no_number_is_told(folder: Path, cache_folder: Path) -> None:
    model = araio.load(folder, approximate="top-2")
    head = model.network.lm_head
    model.network.lm_head = lambda hidden: np.full_like(head(hidden), np.nan)
    with pytest.raises(GenerationError, match="not a number"):
        approximation_cost(model)
    assert not cache_folder.exists()
