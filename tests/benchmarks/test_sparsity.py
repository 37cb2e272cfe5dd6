"""The benchmark of sparsity on tiny shapes: its twins, what it counts, its table and its picture."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import sparsity

from araio.config import ModelConfig
from araio.testing.checkpoints import tiny_config
from araio.testing.shapes import growing

pytest.importorskip("araio.kernels._native")


def tiny(experts: int, chosen: int = 8) -> ModelConfig:
    small = tiny_config("v3", num_nextn_predict_layers=0, n_group=1, topk_group=1)
    return replace(small, n_routed_experts=experts, num_experts_per_tok=chosen)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict:
    monkeypatch.setattr(sparsity, "growing", tiny)
    monkeypatch.setattr(sparsity, "read_bandwidth", lambda threads: 1e10)
    asked = Namespace(experts=[8, 32], batches=[1, 16], codec="q4", threads=1, rounds=1)
    return sparsity.compare(Namespace(**vars(asked), plot=tmp_path / "rows.svg")) | {"folder": tmp_path}


def test_a_sparse_token_uses_the_same_whatever_there_is_and_a_dense_one_everything(report) -> None:
    rows = {(row["mode"], row["experts"], row["batch"]): row for row in report["rows"]}
    assert len(rows) == 8
    few, many, dense = rows["sparse", 8, 1], rows["sparse", 32, 1], rows["dense", 32, 1]
    assert few["experts_touched"] == many["experts_touched"] == 8
    assert many["parameters"] == dense["parameters"] > few["parameters"]
    gates = 24 * tiny(8).hidden_size * len(tiny(8).moe_layers)
    biases = 24 * len(tiny(8).moe_layers)
    assert many["active"] - few["active"] == gates + biases
    assert dense["experts_touched"] == 32
    assert dense["bytes"] > many["bytes"]
    assert 8 < rows["sparse", 32, 16]["experts_touched"] <= 32
    assert rows["sparse", 32, 16]["bytes"] < many["bytes"]
    assert all(row["seconds"] > 0 and row["joules"] > 0 for row in rows.values())


def test_the_report_as_text_and_as_a_picture(report) -> None:
    text = sparsity.text(report)
    assert "joules by" in text
    assert text.count("growth") == 2
    picture = (report["folder"] / "rows.svg").read_text(encoding="utf-8")
    assert "<svg" in picture


def test_experts_are_as_wide_as_those_of_r1_and_a_token_uses_as_many() -> None:
    config = growing(256)
    assert (config.moe_intermediate_size, config.num_experts_per_tok) == (2048, 8)
    assert growing(16, 16).num_experts_per_tok == 16
