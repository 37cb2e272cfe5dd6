"""The speed of tiny models: which rows there are, what bounds them, and what is refused."""

import json
import math
from types import SimpleNamespace

import pytest

from araio.costs.parameters import cache_bytes_per_token, count_parameters
from araio.errors import KernelError, ModelNotFoundError, RequestError
from araio.eval import speed
from araio.eval.speed import active_weight_bytes, measure_speed
from araio.formats.store_layout import StoreCodecs
from araio.testing import turns
from araio.testing.checkpoints import FAMILIES, write_tiny_checkpoint
from araio.weights.convert import convert
from araio.weights.load import open_checked

BANDWIDTH = 1e10


@pytest.fixture(autouse=True)
def memory_of_one_speed(monkeypatch):
    monkeypatch.setattr(turns, "read_bandwidth", lambda threads, rounds: BANDWIDTH)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed") / "tiny"
    write_tiny_checkpoint(folder, "v3")
    return folder


def measured(name, **options):
    return measure_speed(str(name), rounds=1, **{"prefills": [8], "together": [2], "threads": [1], **options})


@pytest.fixture
def native():
    pytest.importorskip("araio.kernels._native")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_active_bytes_are_those_of_the_stored_tensors(family, tied, tmp_path) -> None:
    config = write_tiny_checkpoint(tmp_path / "model", family, tie_word_embeddings=tied)
    with open_checked(tmp_path / "model") as (_, source):
        read = active_weight_bytes(config, lambda name, shape: source.codec(name))
    assert sum(read.values()) == count_parameters(config).model.active_bytes
    assert set(read) == ({"fp8", "bf16", "f32"} if family == "v3-fp8" else {"bf16", "f32"}) - (
        set() if config.has_router_bias else {"f32"}
    )


def test_a_store_is_counted_by_its_codecs(native, tiny, tmp_path) -> None:
    convert(tiny, tmp_path / "store", StoreCodecs("q4", "q8", "bf16"))
    report = measured(tmp_path / "store")
    assert set(report.codecs) == {"q4", "q8", "bf16", "f32"}
    assert all(report.codecs.values())
    whole = sum(path.stat().st_size for path in (tmp_path / "store").glob("*.safetensors"))
    assert report.active_weight_bytes < whole


@pytest.mark.parametrize("family", ["v2-lite", "v3-fp8"])
def test_rows_of_a_folder(native, family, tmp_path) -> None:
    write_tiny_checkpoint(tmp_path / "model", family)
    (tmp_path / "model" / "tokenizer.json").unlink()  # nothing is read or written
    report = measured(tmp_path / "model", prefills=[8, 20], contexts=[50], threads=[1, 2])
    names = ["prefill 20", "prefill 8", "decode", "decode 2 together", "decode after 50"]
    assert [row.name for row in report.rows] == [
        f"{name}, {threads}" for threads in ("1 thread", "2 threads") for name in ("reading memory", *names)
    ]
    for row in report.rows:
        assert row.unit == ("bytes/s" if row.name.startswith("reading") else "tok/s")
        assert 0 < row.low <= row.value <= row.high < math.inf
        assert (row.peer, row.ratio, row.limit, row.fraction_of_limit) == (None,) * 4
    (note,) = report.notes
    assert "less than 64 MiB" in note


def test_decoding_one_sequence_has_a_limit_where_no_cache_holds_it(native, tiny, monkeypatch) -> None:
    monkeypatch.setattr(speed, "CACHE_BYTES", 0)
    report = measured(tiny, contexts=[100])
    rows = {row.name.removesuffix(", 1 thread"): row for row in report.rows}
    with open_checked(tiny) as (config, _):
        latents = cache_bytes_per_token(config)
    for name, context in (("decode", speed.SHORT_CONTEXT), ("decode after 100", 100)):
        row = rows[name]
        assert row.limit == pytest.approx(BANDWIDTH / (report.active_weight_bytes + context * latents))
        assert row.fraction_of_limit == pytest.approx(row.value / row.limit)
    assert rows["prefill 8"].limit is None
    assert rows["decode 2 together"].limit is None
    assert report.notes == ()


def test_the_document_is_json_and_says_what_was_measured_where(native, tiny) -> None:
    document = json.loads(json.dumps(measured(tiny).to_dict()))
    assert document["model"] == str(tiny)
    assert (document["threads"], document["rounds"], document["kernels"]) == ([1], 1, "native")
    assert document["active_weight_bytes"] == sum(document["codecs"].values())
    assert document["machine"]["cores_usable"] >= 1
    assert len(document["rows"]) == 4


def test_prompts_are_as_long_as_a_short_context(native, tmp_path) -> None:
    write_tiny_checkpoint(tmp_path / "model", "v3", max_position_embeddings=100)
    rows = measured(tmp_path / "model", prefills=None).rows
    assert [row.name for row in rows if row.name.startswith("prefill")] == ["prefill 100, 1 thread"]


def test_numpy_alone_is_measured_without_a_limit(tiny, monkeypatch) -> None:
    monkeypatch.setenv("ARAIO_KERNELS", "reference")
    monkeypatch.setattr(speed, "CACHE_BYTES", 0)
    report = measured(tiny, threads=None)
    assert report.kernels == "reference"
    assert all(row.limit is None for row in report.rows)
    assert "NumPy's operations serve (reference was asked for)" in report.notes[0]
    with pytest.raises(RequestError, match="set OMP_NUM_THREADS"):
        measured(tiny, threads=[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefills": [8, 0]}, "prefill is 0; expected 1 or more"),
        ({"together": [-1]}, "together is -1"),
        ({"contexts": [0]}, "context is 0"),
        ({"prefills": [257]}, "prefill is 257, but the model's context holds 256 tokens"),
        ({"contexts": [253]}, "context is 253; expected at most 252"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_loaded(
    native, tiny, monkeypatch, options, message
):
    monkeypatch.setattr(speed, "load_model", None)
    with pytest.raises(RequestError, match=message):
        measured(tiny, **options)


def test_more_is_refused(native, tiny, tmp_path, monkeypatch) -> None:
    with pytest.raises(KernelError, match="threads is '0'"):
        measured(tiny, threads=[0])
    with pytest.raises(RequestError, match="rounds is 0"):
        measure_speed(str(tiny), rounds=0)
    with pytest.raises(ModelNotFoundError, match="known by its config only"):
        measured("deepseek-r1")
    write_tiny_checkpoint(tmp_path / "model", "v3", max_position_embeddings=39)
    with pytest.raises(RequestError, match="holds 39 tokens; 40 are needed"):
        measured(tmp_path / "model")


def test_a_cache_that_memory_cannot_hold_is_refused(native, tiny, monkeypatch) -> None:
    memory = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=10_000))
    monkeypatch.setattr(speed, "psutil", memory)
    with pytest.raises(RequestError, match="the cache of 200 tokens takes 0 MB"):
        measured(tiny, contexts=[10, 200])
