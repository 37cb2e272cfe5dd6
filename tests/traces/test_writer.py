"""A trace that grows: blocks, shards, drafts, cache events, and what interruption leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from araio.errors import TraceError
from araio.traces import CacheEvents, Phase, Rows, Trace, TraceWriter, writer
from araio.traces.blocks import rows_of

from .conftest import LAYERS, assert_same, columns, header


def rows(begin: int, end: int, **given):
    """Rows of the columns of `columns()`, layer by layer."""
    return rows_of({name: np.asarray(values)[begin:end] for name, values in (given or columns()).items()})


def test_what_is_written_is_read(tmp_path, trace):
    trace.save(tmp_path / "x.moetrace")
    found = Trace.open(tmp_path / "x.moetrace")
    assert_same(trace, found)
    assert found.header == replace(trace.header, created=found.header.created)
    assert found.header.created.endswith("+00:00")
    assert [path.name for path in sorted((tmp_path / "x.moetrace").iterdir())] == [
        "counts.safetensors",
        "tokens-00000.safetensors",
        "trace.json",
    ]
    assert not (tmp_path / "x.moetrace.partial").exists()
    found.check()


def test_another_reader_understands_it(tmp_path, trace):
    trace.save(tmp_path / "x.moetrace")
    tensors = load_file(tmp_path / "x.moetrace" / "tokens-00000.safetensors")
    recorded = trace.recorded()
    assert tensors.keys() == recorded.keys()
    for name, values in recorded.items():
        np.testing.assert_array_equal(tensors[name], values)
        assert tensors[name].dtype == values.dtype
    counts = load_file(tmp_path / "x.moetrace" / "counts.safetensors")
    np.testing.assert_array_equal(counts["n"], trace.counts.n)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    rows_per_shard=st.integers(1, 20),
    block_rows=st.integers(1, 30),
    layers=st.integers(1, 3),
    experts=st.sampled_from([4, 16, 300]),
    optional=st.sets(st.sampled_from(["weights", "token_id", "margin"])),
    as_lists=st.booleans(),
)
def test_any_way_of_adding_gives_the_same_trace(
    tmp_path_factory, sizes, rows_per_shard, block_rows, layers, experts, optional, as_lists
):
    given_columns = columns(sum(sizes), seed=len(sizes), layers=layers, experts=experts)
    for name in {"weights", "token_id", "margin"} - optional:
        del given_columns[name]
    made = header(layers=(), n_routed_experts=experts)
    expected = Trace.from_arrays(made, **given_columns)
    folder = tmp_path_factory.mktemp("traces") / "x.moetrace"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "BLOCK_ROWS", block_rows)
        with TraceWriter(folder, made, rows_per_shard) as growing:
            begin = 0
            for size in sizes:
                part = rows(begin, begin + size, **given_columns)
                if as_lists:
                    listed = {
                        name: list(values)
                        for name in ("expert_ids", "weights", "margin")
                        if (values := getattr(part, name)) is not None
                    }
                    part = part._replace(**listed, position=part.position.tolist())
                growing.add(part)
                begin += size
    found = Trace.open(folder)
    assert_same(expected, found)
    shards = json.loads((folder / "trace.json").read_text())["shards"]
    assert shards == [rows_per_shard] * (begin // rows_per_shard) + [begin % rows_per_shard] * (
        begin % rows_per_shard > 0
    )


def test_one_number_stands_for_all_rows(tmp_path):
    ids = [np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.int32) for _ in LAYERS]
    with TraceWriter(tmp_path / "x", header()) as growing:
        growing.add(Rows(ids, [5, 6], 7, domain=1, phase=Phase.DECODE))
        growing.add(Rows([layer[:1] for layer in ids], 9, np.array([8])))
    found = Trace.open(tmp_path / "x")
    assert found.column("position").tolist() == [5, 6, 9]
    assert found.column("seq").tolist() == [7, 7, 8]
    assert found.column("domain").tolist() == [1, 1, 0]
    assert found.column("phase").tolist() == [1, 1, 0]
    assert found.header.columns == ()


def test_arrays_that_do_not_lie_in_one_piece(tmp_path):
    wide = np.arange(16, dtype=np.int32).reshape(2, 8)
    with TraceWriter(tmp_path / "x", header(layers=())) as growing:
        growing.add(Rows([wide[:, ::2], wide[:, 1::2]], [0, 1], 0))
    assert Trace.open(tmp_path / "x").experts[0].tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_a_model_of_the_size_of_deepseek_v3(tmp_path):
    random = np.random.default_rng(0)
    large = header(layers=tuple(range(3, 61)), n_routed_experts=256, top_k=8, n_group=8, topk_group=4)
    ids = np.argsort(random.random((58, 40, 256)), axis=2)[..., :8]
    weights = np.full((58, 40, 8), 0.125, np.float32)
    with TraceWriter(tmp_path / "x", large) as growing:
        for row in range(40):
            growing.add(Rows(list(ids[:, row : row + 1]), row, 0, list(weights[:, row : row + 1])))
    found = Trace.open(tmp_path / "x")
    found.check()
    np.testing.assert_array_equal(found.experts, ids.swapaxes(0, 1))
    assert found.experts.dtype == np.uint8
    assert found.counts.pair.shape == (58, 256, 256)
    assert (tmp_path / "x" / "tokens-00000.safetensors").stat().st_size < 40 * (58 * 8 * 3 + 20) + 1000


def test_drafts_and_cache_events(tmp_path):
    drafts = columns(9, layers=1)
    events = CacheEvents(
        *(np.array(values) for values in ([0, 30], [1, 4], [2, 15], [0, 3], [0, 1 << 31], [0, 5]))
    )
    with TraceWriter(tmp_path / "x", header(mtp_layers=(4,))) as growing:
        growing.add(rows(0, 30))
        growing.add_cache_events(events)
        growing.add_draft(rows(0, 9, **drafts))
        growing.add_cache_events(CacheEvents(*(np.zeros(0, int) for _ in events)))
        growing.add(rows(30, 50))
        growing.add_cache_events(events._replace(t=np.array([50, 50])))
    found = Trace.open(tmp_path / "x")
    assert found.cache_events.t.tolist() == [0, 30, 50, 50]
    assert found.cache_events.bytes.tolist() == [0, 1 << 31] * 2
    assert (found.draft.tokens, found.draft.n_layers, found.draft.header.layers) == (9, 1, (4,))
    assert_same(found.draft, Trace.from_arrays(header(layers=(4,)), **drafts))
    found.check()
    found.save(tmp_path / "again")
    again = Trace.open(tmp_path / "again")
    assert_same(found, again)
    assert_same(found.draft, again.draft)
    assert again.cache_events.t.tolist() == [0, 30, 50, 50]


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"expert_ids": np.full((3, 5, 4), 16)},
            "column 'expert_ids' has numbers from 0 to 16; expected 0 to 15",
        ),
        ({"expert_ids": np.zeros((3, 5, 4), int)}, "an expert is chosen twice"),
        ({"weights": np.full((3, 5, 4), np.nan)}, "a weight is not a number"),
        ({"weights": np.zeros((2, 5, 4))}, "column 'weights' is not of 3 layers"),
        ({"weights": [np.zeros((5, 3))] * 3}, "column 'weights' is not of 3 layers"),
        ({"weights": None}, "column 'weights' is there for some rows only"),
        ({"domain": 2}, "a domain beyond the 2"),
        ({"position": np.arange(4)}, "column 'position' has 14 numbers for 15 tokens"),
        ({"position": -1}, "column 'position' has numbers from -1"),
        ({"token_id": 1 << 31}, "column 'token_id' has numbers from"),
    ],
)
def test_rows_that_contradict_the_header_or_earlier_ones(tmp_path, changes, message):
    growing = TraceWriter(tmp_path / "x", header())
    growing.add(rows(0, 10))
    growing.add(rows(10, 15)._replace(**changes))
    with pytest.raises(TraceError, match=message):
        growing.close()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken(tmp_path, trace):
    trace.save(tmp_path / "x")
    before = (tmp_path / "x" / "trace.json").read_bytes()
    with pytest.raises(TraceError, match="exists already; delete it, or give another name"):
        trace.save(tmp_path / "x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TraceError, match="exists already"):
        TraceWriter(tmp_path / "link", header())
    assert (tmp_path / "x" / "trace.json").read_bytes() == before


def test_a_trace_that_is_replaced_when_the_new_one_is_complete(tmp_path, trace):
    trace.save(tmp_path / "x")
    (tmp_path / "mine").mkdir()
    with TraceWriter(tmp_path / "x", header(), overwrite=True) as growing:
        growing.add(rows(0, 9))
        assert Trace.open(tmp_path / "x").tokens == 50
    assert Trace.open(tmp_path / "x").tokens == 9
    with (
        pytest.raises(TraceError, match="nothing was recorded"),
        TraceWriter(tmp_path / "x", header(), overwrite=True),
    ):
        pass
    assert Trace.open(tmp_path / "x").tokens == 9
    with pytest.raises(TraceError, match="is not a trace, so it is not replaced"):
        TraceWriter(tmp_path / "mine", header(), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "x"]


def test_domains_that_get_their_names_while_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "BLOCK_ROWS", 10)
    with TraceWriter(tmp_path / "x", header(domains=("math",))) as growing:
        growing.add(rows(0, 25)._replace(domain=0))
        growing.name_domains(["math", "law", "chess"])
        growing.add(rows(25, 50)._replace(domain=2))
    found = Trace.open(tmp_path / "x")
    found.check()
    assert found.domains == ("math", "law", "chess")
    assert found.where(domain="chess", phase=tuple(Phase)).sum() == 20
    assert found.counts.n[1].sum() == 0


def test_two_writers_of_one_trace(tmp_path):
    first = TraceWriter(tmp_path / "x", header())
    with pytest.raises(TraceError, match="another process is recording this trace"):
        TraceWriter(tmp_path / "x", header())
    first.add(rows(0, 50))
    first.close()
    assert Trace.open(tmp_path / "x").tokens == 50


def test_a_folder_that_is_in_the_way(tmp_path):
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "x.partial" / "thesis.tex").write_text("dear")
    with pytest.raises(TraceError, match=r"is in the way, and holds 'thesis\.tex'"):
        TraceWriter(tmp_path / "x", header())
    assert (tmp_path / "x.partial" / "thesis.tex").read_text() == "dear"


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match=r"the trace could not be written \(Not a directory\)"):
        TraceWriter(tmp_path / "file" / "x", header())


def test_nothing_recorded(tmp_path):
    with (
        pytest.raises(TraceError, match="nothing was recorded, so there is no trace"),
        TraceWriter(tmp_path / "x", header()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(ZeroDivisionError),
        TraceWriter(tmp_path / "x", header()),
    ):  # the error that matters is told
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_closed_trace_takes_nothing_more(tmp_path):
    growing = TraceWriter(tmp_path / "x", header())
    growing.add(rows(0, 50))
    growing.close()
    growing.close()
    with pytest.raises(TraceError, match="is closed; nothing more can be recorded"):
        growing.add(rows(0, 50))
    with pytest.raises(TraceError, match="is closed"):
        growing.add_cache_events(CacheEvents(*(np.zeros(1, int) for _ in range(6))))


def test_an_error_is_told_once_and_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "BLOCK_ROWS", 10)

    def record() -> None:
        with TraceWriter(tmp_path / "x", header()) as growing:
            growing.add(rows(0, 10)._replace(domain=2))
            growing.add(rows(10, 20))
            raise AssertionError("the error comes with the next block")

    with pytest.raises(TraceError, match="a domain beyond the 2"):
        record()
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- interruption


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_recording_keeps_what_it_has(tmp_path, error):
    def record() -> None:
        with TraceWriter(tmp_path / "x", header(), rows_per_shard=20) as growing:
            growing.add(rows(0, 30))
            raise error

    with pytest.raises(error):
        record()
    found = Trace.open(tmp_path / "x")
    found.check()
    assert found.tokens == 30
    np.testing.assert_array_equal(found.recorded()["token_id"], columns()["token_id"][:30])


def test_a_discarded_recording_leaves_nothing(tmp_path):
    growing = TraceWriter(tmp_path / "x", header())
    growing.add(rows(0, 50))
    growing.discard()
    growing.close()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
import numpy as np
from araio.traces import Rows, TraceHeader, TraceWriter, writer
writer.BLOCK_ROWS = 10
growing = TraceWriter(sys.argv[1], TraceHeader(n_routed_experts=16, top_k=4), rows_per_shard=20)
for row in range(100):
    growing.add(Rows([np.arange(4)[None]], row, 0))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_killed_recording_is_no_trace_and_does_not_stand_in_the_way(tmp_path, trace):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "x")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(TraceError, match="another process is recording"):
            TraceWriter(tmp_path / "x", header())
        os.kill(process.pid, signal.SIGKILL)
    assert (tmp_path / "x.partial" / "tokens-00000.safetensors").exists()
    with pytest.raises(
        TraceError, match=r"does not exist, but x\.partial does: .* killed before it was complete"
    ):
        Trace.open(tmp_path / "x")
    with pytest.raises(TraceError, match="killed before it was complete; it cannot be read"):
        Trace.open(tmp_path / "x.partial")
    trace.save(tmp_path / "x")
    assert_same(trace, Trace.open(tmp_path / "x"))
    assert not (tmp_path / "x.partial").exists()


def test_several_threads_may_add(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "BLOCK_ROWS", 7)
    growing = TraceWriter(tmp_path / "x", header(), rows_per_shard=50)

    def record(number: int) -> None:
        for begin in range(0, 50, 5):
            growing.add(rows(begin, begin + 5)._replace(seq=number, domain=number % 2))
            time.sleep(0)

    threads = [Thread(target=record, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    growing.close()
    found = Trace.open(tmp_path / "x")
    found.check()
    assert [part.stop - part.start for part in found.sequences] == [50] * 4
    for part in found.sequences:
        np.testing.assert_array_equal(found.column("token_id")[part], columns()["token_id"])
