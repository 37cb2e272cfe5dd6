"""What streaming is reported to do, on small models whose memory is counted as ten megabytes and no more."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from araio.errors import BudgetError, DiskError, ModelNotFoundError, RequestError
from araio.eval import ceiling, streaming
from araio.eval.ceiling import DiskCeiling
from araio.eval.streaming import StreamReport, measure_streaming
from araio.formats.store_layout import StoreCodecs
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import load
from araio.weights.convert import convert
from araio.weights.load import Memory, open_model
from araio.weights.machine_memory import MachineMemory

MACHINE = MachineMemory(total=1 << 40, available=1 << 40, used=10 << 20)
LAYERS, EXPERTS, CHOSEN = 2, 32, 3


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "machine_memory", lambda: MACHINE)
    monkeypatch.setattr(streaming, "machine_memory", lambda: MACHINE)
    monkeypatch.setattr(ceiling, "SAMPLE_S", 0.01)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streaming") / "tiny"
    write_tiny_checkpoint(folder, "v2-lite", n_routed_experts=EXPERTS, moe_intermediate_size=160)
    return folder


@pytest.fixture(scope="module")
def store(tiny: Path) -> Path:
    convert(tiny, tiny.with_name("store"), StoreCodecs("q4", "q8", "bf16"))
    return tiny.with_name("store")


def budget_of(folder: Path, share: float) -> int:
    """The least that works, and room for a share of the experts."""
    budget = open_model(folder, memory=Memory(1 << 40)).budget
    return round(budget.smallest + share * budget.experts)


def measured(folder: Path, share: float = 0.5, **options: Any) -> StreamReport:
    ram = budget_of(folder, share)
    return measure_streaming(str(folder), ram=ram, **{"tokens": 10, "prompt": 20, **options})


@pytest.mark.parametrize("kind", ["store", "tiny"])
def test_every_use_of_every_token_is_accounted_for(kind: str, request: pytest.FixtureRequest) -> None:
    report = measured(request.getfixturevalue(kind))
    assert (report.experts, report.layers) == (LAYERS * EXPERTS, (1, 2))
    assert 0 < (report.budget.slots or 0) < report.experts
    assert len(report.tokens) == sum(report.round_tokens) == 10
    for token in report.tokens:
        assert token.counts.uses == LAYERS * CHOSEN
        assert sum(token.missed) == token.counts.missed
        assert len(token.missed) == len(token.optimum) == LAYERS
    for name in ("pinned", "cached", "prefetched", "missed"):
        assert getattr(report.counts, name) == sum(getattr(token.counts, name) for token in report.tokens)
    assert report.prompt_read > 0
    assert len(report.ceiling) == len(report.round_tokens) + 1
    assert min(report.ceiling) > 0


def test_no_run_reads_less_than_the_optimum(store: Path) -> None:
    for share in (0.0, 0.3, 0.8):
        report = measured(store, share, tokens=24)
        assert 0 < report.optimum_reads <= report.counts.reads
        found = report.counts.pinned + report.counts.cached
        assert found <= round(report.optimum_hit_share * report.counts.uses)


def test_the_optimum_is_as_fast_as_its_reads_or_as_computing(store: Path) -> None:
    report = measured(store)
    slow = replace(report, ceiling=(1.0,))
    assert slow.optimum_tok_per_s == pytest.approx(10 / (report.optimum_reads * report.record_bytes))
    fast = replace(report, ceiling=(1e18,))
    computed_s = report.seconds - report.counts.wait_s
    assert replace(fast, in_memory_s=computed_s / 2).optimum_tok_per_s == pytest.approx(20 / computed_s)
    assert replace(fast, in_memory_s=computed_s * 2).optimum_tok_per_s == pytest.approx(10 / computed_s)


def test_without_room_for_everything_computing_is_what_was_not_waited(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ram = budget_of(store, 0.5)
    monkeypatch.setattr(streaming, "machine_memory", lambda: replace(MACHINE, total=ram))
    report = measured(store)
    assert report.in_memory_s is None
    assert report.compute_s == pytest.approx(report.seconds - report.counts.wait_s)
    assert report.to_dict()["in_memory_tok_per_s"] is None


def test_the_text_goes_on_as_it_would_in_memory(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = streaming._Sequence.decode

    def noted(self: Any, token: int, routes: Any = None) -> Any:
        decoded.append(token)
        return decode(self, token, routes)

    monkeypatch.setattr(streaming._Sequence, "decode", noted)
    measured(tiny, tokens=6)
    assert decoded[:6] == decoded[6:]
    network = open_model(tiny, memory=Memory(1 << 40)).network
    cache = network.new_cache()
    text = streaming._Text(tiny, network.config, 20, 6)
    scores = network.logits(network.forward(text.prompt, cache))[-1]
    for token in decoded[:6]:
        assert token == text.next(scores)
        scores = network.logits(network.forward(np.array([token]), cache, absorbed=True))[-1]


def test_a_model_without_tokenizer_is_given_random_tokens(tiny: Path, tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path / "model", "v3", n_routed_experts=EXPERTS)
    (tmp_path / "model" / "tokenizer.json").unlink()
    report = measured(tmp_path / "model")
    assert len(report.tokens) == 10
    assert report.counts.uses == 10 * LAYERS * 4


def test_what_an_earlier_run_left_is_neither_read_nor_changed(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured(store)
    assert not list(tmp_path.rglob("*.json"))


def test_progress_is_told_before_each_part(store: Path) -> None:
    told: list[tuple[str, int, int]] = []
    measured(store, on_turn=lambda *turn: told.append(turn))
    names, done, totals = zip(*told, strict=True)
    assert names == ("opening", "prompt", *(f"decoding, round {n}" for n in (1, 2, 3, 4)), "in memory")
    assert done == tuple(range(7))
    assert set(totals) == {7}


def test_fewer_tokens_than_rounds_are_a_round_each(store: Path) -> None:
    report = measured(store, tokens=2)
    assert report.round_tokens == (1, 1)
    assert len(report.round_speeds) == 2


def test_the_document_is_json(store: Path) -> None:
    document = json.loads(json.dumps(measured(store).to_dict()))
    assert document["model"] == str(store)
    assert document["tok_per_s"] > 0
    assert document["optimum_tok_per_s"] > 0
    assert len(document["tokens"]) == 10


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tokens": 0}, RequestError, "tokens is 0; expected 1 or more"),
        ({"prompt": 0}, RequestError, "prompt is 0"),
        ({"prompt": 250}, RequestError, "the prompt has 250 tokens and the model's context holds 256"),
        ({"ram": 1 << 30}, RequestError, "every expert fits into 1.0 GiB"),
        ({"ram": 1 << 20}, BudgetError, "are too few"),
        ({"io": "fast"}, DiskError, "io is 'fast'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    store: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"ram": budget_of(store, 0.5), "tokens": 10, "prompt": 20} | options
    with pytest.raises(error, match=message):
        measure_streaming(str(store), **given)


def test_a_model_that_is_nowhere_and_one_without_experts(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        measure_streaming("deepseek-r1")
    write_tiny_checkpoint(tmp_path / "dense", "v2-lite", first_k_dense_replace=3)
    with pytest.raises(RequestError, match="has no routed experts"):
        measure_streaming(str(tmp_path / "dense"))


def test_the_budget_named_for_a_model_that_fits_is_one_that_streams(store: Path) -> None:
    with pytest.raises(RequestError, match="every expert fits") as caught:
        measure_streaming(str(store), ram=1 << 30)
    assert "give --ram between " in str(caught.value)


def test_the_disk_is_read_in_pieces_of_any_size(tmp_path: Path) -> None:
    files = [tmp_path / "large", tmp_path / "small"]
    files[0].write_bytes(bytes(100_001))
    files[1].write_bytes(bytes(5))  # less than a piece
    disk = DiskCeiling(files, 8192)
    assert disk.sample() > 0
    disk.close()


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(1 << 20))
    disk = DiskCeiling([file], 65536)
    file.write_bytes(b"")
    with pytest.raises(DiskError, match="large"):
        disk.sample()
