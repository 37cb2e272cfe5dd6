"""The comparisons of benchmarks/ on tiny shapes: whole reports, and no timing of engines that disagree."""

from argparse import Namespace
from functools import partial

import against_transformers
import native
import pytest
from peers.transformers_cpu import Transformers

from araio.config import ModelConfig
from araio.formats.store_layout import StoreCodecs
from araio.kernels.select import select
from araio.testing import turns
from araio.testing.checkpoints import tiny_config
from araio.testing.random_weights import random_model
from araio.testing.timer import ModelTimer
from araio.weights.load import load_model

pytest.importorskip("araio.kernels._native")

NAMES = ["reading memory", "prefill 24", "prefill 9", "decode", "decode 8 together"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "read_bandwidth", lambda threads, rounds: 1e10)
    monkeypatch.setattr(against_transformers, "PREFILLS", (9, 24))


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return tiny_config("v3", num_nextn_predict_layers=0)


def test_transformers_and_araio_in_turns(config) -> None:
    report = against_transformers.compare(config, [1], rounds=1)
    assert [row["name"] for row in report["rows"]] == [
        f"{name}, 1 thread, {dtype}" for dtype in ("float32", "bfloat16") for name in NAMES
    ]
    assert report["logits_distance"]["float32"] < 1e-5
    for row in report["rows"]:
        if row["unit"] == "tok/s":
            assert row["ratio"] == pytest.approx(row["value"] / row["peer"])
    assert "logits apart by" in against_transformers.text(report)


def test_engines_that_disagree_are_not_compared(config, tmp_path) -> None:
    against_transformers.write(tmp_path, config)
    model, peer = load_model(tmp_path), Transformers(tmp_path, "float32")
    model.layers[1].self_attn.kv_a_layernorm.weight[:] *= 1.01
    with pytest.raises(against_transformers.DisagreementError, match="of their length apart"):
        against_transformers.check(model, peer, "float32")


def native_options(**changes: object) -> Namespace:
    options = {"shape": "lite", "codec": "q4", "threads": [1], "rounds": 1, "prefill": [9, 24]}
    options |= {"together": [16], "context": [100], "alone": False, "apart": False}
    return Namespace(**options | changes)


def test_the_native_engine_without_a_peer(config, monkeypatch) -> None:
    monkeypatch.setitem(native.SHAPES, "lite", lambda: config)
    report = native.compare(native_options(alone=True, together=[8, 16]))
    names = [*NAMES, "decode 16 together", "decode after 100"]
    assert [row["name"] for row in report["rows"]] == [f"{name}, 1 thread" for name in names]
    assert all(row["peer"] is None for row in report["rows"])
    assert "lite q4 against nobody" in native.text(report)


class HalfAsFast(ModelTimer):
    """A peer that is the model itself, timed as if everything took twice as long."""

    def __init__(self, config: ModelConfig, file: str, threads: int) -> None:
        codecs = StoreCodecs("q4", "q4", "q4")
        super().__init__(random_model(config, codecs, select("native").ops), threads)

    def __enter__(self) -> "HalfAsFast":
        return self

    def __exit__(self, *error: object) -> None: ...

    def prefill(self, tokens: int) -> float:
        return 2 * super().prefill(tokens)


@pytest.mark.parametrize("apart", [False, True])
def test_engines_in_turns_or_apart(config, monkeypatch, apart: bool) -> None:
    monkeypatch.setitem(native.SHAPES, "lite", lambda: config)
    monkeypatch.setattr(native, "peer_file", lambda shape, quantisation: f"{shape}-{quantisation}")
    monkeypatch.setattr(native, "LlamaCpp", partial(HalfAsFast, config))
    report = native.compare(native_options(apart=apart))
    assert report["peer"] == "llama.cpp q4_0"
    for row in report["rows"]:
        assert row["ratio"] is None or row["ratio"] == pytest.approx(row["value"] / row["peer"])
        assert (row["ratio_low"] is None) == (apart or row["unit"] == "bytes/s")
    assert {row["name"] for row in report["rows"] if row["peer"]} >= {"prefill 9, 1 thread"}
    assert "lite q4 against llama.cpp q4_0" in native.text(report)
