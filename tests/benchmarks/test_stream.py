"""The comparison of streaming: its arithmetic, and a whole report of a small model without llama.cpp."""

import mmap
from argparse import Namespace

import disk_ceiling
import memory_limit
import numpy as np
import process_watch
import pytest
import stream
from disk_ceiling import Records, record_ceiling
from memory_limit import STEP, MemoryLimit, steps
from process_watch import Memory
from report import table
from stream_rows import Round, best_speed, rows_of
from stream_turns import Measured, Turn, agreement, routing

pytest.importorskip("araio.kernels._native")

PAGE = mmap.PAGESIZE


def turn(seconds: float, size: int) -> Turn:
    measured = Measured(10, seconds, size)
    return Turn({"fitted": measured}, Measured(512, 8 * seconds, 0), Memory(1, 2, 3), {})


def test_rows_are_medians_with_their_ranges_and_limits() -> None:
    rounds = [
        Round({"araio": turn(1.0, 100), "peer": turn(4.0, 400)}, 200.0, 12),
        Round({"araio": turn(2.0, 100), "peer": turn(4.0, 400)}, 100.0, 12),
        Round({"araio": turn(2.5, 100), "peer": turn(10.0, 400)}, 100.0, 12),
    ]
    ceiling, decode, disk, read, prefill = rows_of({0.5: rounds}, {"fitted": 20.0}, {(0.5, "fitted"): 2.0}, 5)
    assert ceiling.name == "50%: reading records"
    assert ceiling.value == 100
    assert (decode.value, decode.peer, decode.ratio) == (5.0, 2.5, 4.0)
    assert (decode.ratio_low, decode.ratio_high) == (2.0, 4.0)
    assert decode.limit == 10  # 100 bytes/s for 10 bytes a token; computing would give 20
    assert decode.fraction_of_limit == pytest.approx(0.5)
    assert disk.fraction_of_limit == pytest.approx(0.5)
    assert (read.value, read.peer, read.ratio) == (10, 40, 4)
    assert prefill.value == pytest.approx(512 / 16)
    assert "0.000 GB" in table([vars(read)])


def test_without_a_peer_there_are_no_ratios() -> None:
    rows = rows_of(
        {0.25: [Round({"araio": turn(1.0, 0)}, 200.0, 12)]}, {"fitted": 20.0}, {(0.25, "fitted"): 0}, 5
    )
    assert all(row.ratio is None and row.peer is None for row in rows)


def test_the_best_speed_is_that_of_the_slower_half() -> None:
    assert best_speed(computed=20, token_bytes=10, ceiling=100) == 10
    assert best_speed(computed=5, token_bytes=10, ceiling=100) == 5
    assert best_speed(computed=5, token_bytes=0, ceiling=100) == 5


def test_what_is_told_of_routes() -> None:
    routes = np.array([[[0, 1]], [[1, 2]], [[1, 3]]])
    told = routing(routes, np.array([[[0, 1]], [[1, 3]], [[2, 3]]]), experts=8)
    assert told.coverage == 0.5
    assert told.overlap == 0.5
    assert told.union == 4
    assert told.intended == pytest.approx(4 / 6)
    assert agreement(routes, routes) == 1


def test_memory_is_locked_down_to_what_shall_stay() -> None:
    assert steps(10 * STEP + 5 * PAGE + 7, 2 * STEP) == [STEP] * 8 + [5 * PAGE]
    assert steps(STEP, STEP) == steps(STEP, 2 * STEP) == []


def test_what_others_take_is_given_back_and_taken_again(monkeypatch) -> None:
    monkeypatch.setattr(memory_limit, "STEP", 4 * PAGE)
    locked = memory_limit.Locked()
    locked.take(4 * PAGE)
    locked.take(4 * PAGE)
    sizes = []
    for excess in (3 * PAGE, 5 * PAGE, -3 * PAGE, -9 * PAGE, -4 * PAGE, 100 * PAGE):
        locked.follow(excess)
        sizes.append(len(locked._held))
    assert sizes == [2, 1, 1, 3, 4, 0]


def test_a_limit_ends_with_its_block_and_tells_when_it_is_gone() -> None:
    # As much as there is and more: nothing is taken away, but the helper runs.
    with MemoryLimit(2 * memory_limit.available_bytes()) as limit:
        limit.check()
        limit._helper.kill()
        limit._helper.wait()
        with pytest.raises(memory_limit.LimitError, match="came back"):
            limit.check()


def test_a_helper_that_cannot_lock_is_told(monkeypatch) -> None:
    monkeypatch.setattr(memory_limit, "__file__", "/dev/null/nothing.py")
    with pytest.raises(memory_limit.LimitError, match="memory could not be locked"):
        MemoryLimit(1).__enter__()


def test_the_page_cache_of_a_file_is_counted(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * PAGE + 1))
    assert process_watch.cached_bytes(path) == 4 * PAGE
    path.write_bytes(b"")
    assert process_watch.cached_bytes(path) == 0


def test_a_process_is_watched() -> None:
    import os

    memory = process_watch.memory_of(os.getpid(), [])
    assert 0 < memory.own <= memory.peak
    assert memory.total == memory.own + memory.cached
    assert process_watch.read_bytes(os.getpid()) >= 0


def test_records_are_read_at_random_until_the_time_is_over(tmp_path) -> None:
    path = tmp_path / "records"
    path.write_bytes(bytes(9 * PAGE))
    records = [Records(path, PAGE, PAGE, 8)]
    assert record_ceiling(records, 0.01, seed=0, threads=(1, 2)) > 0
    with pytest.raises(disk_ceiling.CheckpointError, match="ended early"):
        record_ceiling([Records(path, PAGE, 4 * PAGE, 4)], 0.5, seed=0, threads=(1,))


def options(folder, **changes: object) -> Namespace:
    chosen = {"share": [0.05], "texts": ["fitted"], "warm": 2, "tokens": 4, "prompt": 32, "rounds": 1}
    chosen |= {"threads": 1, "alone": True, "shm": False, "quick": True, "folder": folder}
    return Namespace(**chosen | changes)


def test_a_whole_report_of_a_small_model(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stream, "CEILING_S", 0.01)
    report = stream.compare(options(tmp_path))
    names = [row["name"] for row in report["rows"]]
    assert names[1:3] == ["5%: fitted, decode", "5%: fitted, disk"]
    (limit,) = report["limits"]
    assert limit["slots"] < 4 * 64
    assert limit["memory"][0]["araio"]["own"] < limit["ram"]
    assert limit["counters"]["read_bytes"] > 0
    assert 0.8 < report["routing"]["fitted"]["as intended"] <= 1
    assert "against nobody" in stream.text(report)
