"""The log of receipts: sums, several writers, and files that cannot be written or read."""

import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from araio.costs.receipt import Joules
from araio.costs.receipt_log import ReceiptLog, log_path
from araio.costs.tariff import choose_tariff
from araio.errors import LogError

DAY_S = 86_400
NOON = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
COUNTED = Joules(best=10.0, low=10.0, high=10.0, idle=None, method="rapl+nvml")


@pytest.fixture
def log(tmp_path):
    return ReceiptLog(tmp_path / "state" / "receipts.sqlite3")


def test_a_log_that_nobody_wrote_is_empty_and_stays_unwritten(log):
    assert log.totals() == []
    assert not log.path.exists()


def test_receipts_add_up_by_day_and_from_a_day_on(log, make_receipt):
    for days, answer_tokens in ((0, 3), (0, 5), (1, 7), (40, 11)):
        log.add(make_receipt(answer_tokens=answer_tokens), at=NOON + days * DAY_S)
    totals = log.totals("day")
    assert [(total.name, total.answers, total.answer_tokens) for total in totals] == [
        ("2026-03-01", 2, 8),
        ("2026-03-02", 1, 7),
        ("2026-04-10", 1, 11),
    ]
    assert totals[0].prompt_tokens == 40
    assert totals[0].reasoning_tokens == 18
    assert totals[0].seconds == pytest.approx(0.6)
    assert totals[0].flops == 2 * 128e6
    assert totals[0].memory_bytes == 2 * 45.6e6
    assert [total.name for total in log.totals("day", since=NOON + 1)] == ["2026-03-02", "2026-04-10"]


def test_days_are_those_of_the_users_clock(log, make_receipt, monkeypatch):
    noon_in_greenwich = 1_767_268_800  # 2026-01-01, when it is tomorrow on the other side
    log.add(make_receipt(), at=noon_in_greenwich)
    days = []
    try:
        for zone in ("UTC0", "XXX-13"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            days += [total.name for total in log.totals("day")]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert days == ["2026-01-01", "2026-01-02"]


def test_measured_and_modelled_joules_stay_apart(log, make_receipt):
    log.add(make_receipt())
    log.add(make_receipt(joules=COUNTED))
    (total,) = log.totals("model")
    assert (total.name, total.answers, total.measured_joules) == ("pocket", 2, 10.0)
    assert (total.modelled_low, total.modelled_joules, total.modelled_high) == (1.8, 3.6, 7.2)
    assert total.modelled_grams == pytest.approx(0.36 * total.measured_grams)
    assert total.measured_grams == pytest.approx(make_receipt(joules=COUNTED).grams_co2e)


def test_money_is_summed_by_currency(log, make_receipt):
    dollars = choose_tariff("pocket", "DEU", "1,2")
    yuan = replace(dollars, prices=replace(dollars.prices, currency="CNY"))
    for tariff in (dollars, dollars, yuan, choose_tariff("pocket", "DEU", "none")):
        log.add(make_receipt(tariff=tariff))
    (total,) = log.totals("model")
    of_one = (20 * 1 + 12 * 2) / 1e6
    assert total.answers == 4
    assert total.money == {"USD": pytest.approx(2 * of_one), "CNY": pytest.approx(of_one)}


def test_profiles_are_told_apart(log, make_receipt):
    log.add(make_receipt())
    log.add(make_receipt(), profile="math")
    assert [(total.name, total.answers) for total in log.totals("profile")] == [("", 1), ("math", 1)]


def test_more_operations_than_64_bits_hold_are_kept(log, make_receipt):
    log.add(make_receipt(flops=10**20))
    assert log.totals()[0].flops == 1e20


def test_only_numbers_and_names_are_stored(log, make_receipt):
    log.add(make_receipt(), profile="math")
    with sqlite3.connect(log.path) as file:
        (row,) = file.execute("SELECT * FROM receipts").fetchall()
    file.close()
    assert {value for value in row if isinstance(value, str)} == {"pocket", "math", "model:tdp"}


def test_the_log_lies_where_the_system_wants_state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert log_path() == tmp_path / "araio" / "receipts.sqlite3"
    for useless in ("", "relative/folder"):
        monkeypatch.setenv("XDG_STATE_HOME", useless)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert log_path() == tmp_path / ".local" / "state" / "araio" / "receipts.sqlite3"


def test_a_user_without_a_home_is_told(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(LogError, match="set XDG_STATE_HOME to a folder, or do without"):
        log_path()


def no_home(path):
    raise RuntimeError("Could not determine home directory.")


def test_a_folder_whose_name_is_no_text_is_kept_as_near_as_can_be(log, make_receipt):
    log.add(make_receipt(model=os.fsdecode(b"/models/\xff")))
    assert [total.name for total in log.totals("model")] == ["/models/?"]


# All begin on one word, so that they find no file and make it together.
WRITER = """
import pickle, sys
from araio.costs.receipt_log import ReceiptLog
log, receipt = pickle.loads(bytes.fromhex(sys.argv[1]))
print("ready", flush=True)
sys.stdin.buffer.read()
for _ in range(20):
    log.add(receipt)
"""


def test_processes_write_at_the_same_time(log, make_receipt):
    import pickle

    command = [sys.executable, "-c", WRITER, pickle.dumps((log, make_receipt())).hex()]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0] * 4
    for writer in writers:
        writer.stdout.close()
    assert log.totals()[0].answers == 80


FULL = """
import pickle, resource, sys
log, receipt = pickle.loads(sys.stdin.buffer.read())
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from araio.errors import LogError
try:
    log.add(receipt)
except LogError as error:
    print(error)
"""


def test_a_full_disk_is_told(log, make_receipt):
    import pickle

    content = pickle.dumps((log, make_receipt()))
    done = subprocess.run([sys.executable, "-c", FULL], input=content, capture_output=True, check=True)
    assert f"{log.path}, cannot be used (".encode() in done.stdout
    assert b"ARAIO_RECEIPTS=off" in done.stdout


def test_a_file_in_the_way_is_told(tmp_path, make_receipt):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot be used"):
        ReceiptLog(tmp_path / "file" / "receipts.sqlite3").add(make_receipt())


def test_a_file_that_is_no_log_is_told_and_left_alone(tmp_path, make_receipt):
    path = tmp_path / "receipts.sqlite3"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 40)
    before = path.read_bytes()
    for use in (ReceiptLog(path).totals, lambda: ReceiptLog(path).add(make_receipt())):
        with pytest.raises(LogError, match="move it away"):
            use()
    assert path.read_bytes() == before


def test_a_log_of_a_later_version_is_left_alone(log, make_receipt):
    log.add(make_receipt())
    with sqlite3.connect(log.path) as file:
        file.execute("PRAGMA user_version = 2")
    file.close()
    with pytest.raises(LogError, match="has version 2; this araio knows 1"):
        log.add(make_receipt())
