"""What decoding read, beside the least that it could have read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import hindsight as module
from araio.weights.hindsight import Hindsight

from .streams import streamed

IDS = np.random.default_rng(5).integers(0, 250, 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_checkpoint(tmp_path, "v2")
    return tmp_path


@pytest.mark.parametrize("slots", [6, 16, 32])
def test_no_run_reads_less_than_the_least(folder: Path, slots: int) -> None:
    model, source = streamed(folder, slots)
    cache = model.new_cache()
    with Hindsight(model, source) as hindsight:
        model.forward(IDS[:8], cache)
        for token in IDS[8:]:
            model.forward(np.array([token]), cache, absorbed=True)
    read, least = hindsight.read_per_token()
    assert read >= least > 0 or slots == 32
    assert model.on_route is None


def test_with_room_for_all_each_expert_is_read_once(folder: Path) -> None:
    model, source = streamed(folder, source_count := 32)
    cache = model.new_cache()
    with Hindsight(model, source) as hindsight:
        for token in IDS:
            model.forward(np.array([token]), cache, absorbed=True)
    _, least = hindsight.read_per_token()
    assert source.count == source_count
    assert least * len(IDS) == len(source.in_memory) * source.record_bytes


def test_a_prompt_alone_has_nothing_to_look_back_on(folder: Path) -> None:
    model, source = streamed(folder, 8)
    with Hindsight(model, source) as hindsight:
        model.forward(IDS, model.new_cache())
    assert hindsight.read_per_token() is None


def test_it_looks_back_on_the_first_tokens_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = streamed(folder, 8)
    config = model.config
    monkeypatch.setattr(module, "MOST_USES", 3 * len(config.moe_layers) * config.num_experts_per_tok)
    cache = model.new_cache()
    with Hindsight(model, source) as hindsight:
        for token in IDS[:3]:
            model.forward(np.array([token]), cache, absorbed=True)
        after_three = hindsight.read_per_token()
        for token in IDS[3:]:
            model.forward(np.array([token]), cache, absorbed=True)
    assert hindsight.read_per_token() == after_three
