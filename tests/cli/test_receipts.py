"""`araio run` keeps receipts and `araio receipts` sums them up, each in a process of its own."""

import json
import sys
from dataclasses import replace

import pytest

from araio.cli import receipts_plot
from araio.cli.commands.receipts import command
from araio.cli.receipt_keeper import ReceiptKeeper
from araio.costs.receipt import Joules
from araio.costs.receipt_log import ReceiptLog
from araio.costs.tariff import choose_tariff
from araio.engine.answer import Answer, Timings
from araio.errors import LogError, RequestError

QUESTION = "What is 2 + 2?"


@pytest.fixture
def ask(araio_command, tiny, tmp_path):
    """Asks a tiny model, with a state folder of the test's own."""

    def run(*arguments, **environment):
        environment = {"XDG_STATE_HOME": str(tmp_path)} | environment
        return araio_command(
            "run", tiny, QUESTION, "--max-tokens", 5, "--temperature", 0, *arguments, **environment
        )

    return run


@pytest.fixture
def receipts(araio_command, tmp_path):
    def run(*arguments, **environment):
        return araio_command("receipts", *arguments, XDG_STATE_HOME=str(tmp_path), **environment)

    return run


def test_answers_are_summed_up(ask, receipts, tiny):
    ask()
    ask("--json", "--country", "FRA")
    document = json.loads(receipts("--by", "model", "--json").stdout)
    (total,) = document["totals"]
    assert (document["by"], total["name"], total["answers"]) == ("model", str(tiny), 2)
    assert total["reasoning_tokens"] + total["answer_tokens"] == 10
    assert total["measured_joules"] + total["modelled_joules"] > 0
    assert total["measured_grams"] + total["modelled_grams"] > 0
    table = receipts().stdout.splitlines()
    assert table[0].split()[:2] == ["day", "asked"]
    assert table[1].split()[1] == "2"


def test_the_table_fits_a_terminal(in_process, capsys, make_receipt):
    in_process.setenv("COLUMNS", "80")
    tariff = choose_tariff("pocket", "DEU", "deepseek-r1")
    long = {"prompt_tokens": 123_456_789, "flops": 10**17, "memory_bytes": 10**13, "decode_s": 7e3}
    for joules in (
        Joules(12_345.0, 12_345.0, 12_345.0, None, "rapl"),
        Joules(1e4, 5e3, 2e4, 1.0, "model:tdp"),
    ):
        ReceiptLog().add(make_receipt(joules=joules, tariff=tariff, **long), at=0.0)
    command()
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["day", "asked", "tokens", "FLOP", "bytes", "time", "energy", "CO2e", "USD"]
    assert max(map(len, table)) <= 80
    assert "…" not in "".join(table)
    # Both kinds of joules and of grams, one above the other.
    assert "12.3 kJ" in table[1]
    assert "~10.0 kJ" in table[2]
    assert [cell[0] for cell in table[2].split()[::2]] == ["~", "~"]


def test_every_currency_has_a_column(in_process, capsys, make_receipt):
    in_process.setenv("COLUMNS", "100")
    dollars = choose_tariff("pocket", "DEU", "1,2")
    yuan = replace(dollars, prices=replace(dollars.prices, currency="CNY"))
    ReceiptLog().add(make_receipt(tariff=dollars), at=0.0)
    ReceiptLog().add(make_receipt(tariff=yuan), at=1e9)
    command()
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split()[-2:] == ["CNY", "USD"]
    assert first.endswith("0.000044")
    assert second.rstrip().endswith("0.000044")
    assert len(second.rstrip()) < len(first)


def test_nothing_is_drawn_of_nothing(in_process, capsys, tmp_path):
    command(plot=tmp_path / "receipts.png")
    assert capsys.readouterr().out.startswith("no receipts in ")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_kept_where_it_is_not_wanted(ask, receipts, tmp_path):
    assert ask("--no-log").returncode == ask(ARAIO_RECEIPTS="off").returncode == 0
    assert list(tmp_path.iterdir()) == []
    done = receipts()
    assert (done.returncode, done.stdout.startswith("no receipts in ")) == (0, True)


def test_a_log_that_cannot_be_written_costs_no_answer(ask, tmp_path):
    (tmp_path / "araio").write_text("a file where the folder should be")
    done = ask()
    assert done.returncode == 0
    assert "tokens · " in done.stderr
    # Behind everything else, so that it neither breaks into the answer nor makes anybody wait for one.
    assert done.stderr.splitlines()[-1].startswith("note: the log of receipts")
    assert done.stderr.count("note: ") == 1
    as_json = ask("--json")
    assert json.loads(as_json.stdout)["usage"]["araio"]["flops"] > 0
    assert as_json.stderr.count("note: the log of receipts") == 1


def test_it_is_noted_once_in_a_conversation(in_process, make_receipt):
    in_process.setenv("XDG_STATE_HOME", "/proc/nowhere")
    notes = []
    keeper = ReceiptKeeper(notes.append, is_off=False)
    answer = Answer("pocket", "", "4", "stop", {}, Timings(0.1, 0.1, 2), make_receipt())
    for _ in range(3):
        keeper.keep(answer)
    assert len(notes) == 1


def test_a_python_without_sqlite_is_noted(in_process, make_receipt):
    in_process.setitem(sys.modules, "araio.costs.receipt_log", None)
    notes = []
    answer = Answer("pocket", "", "4", "stop", {}, Timings(0.1, 0.1, 2), make_receipt())
    ReceiptKeeper(notes.append, is_off=False).keep(answer)
    assert len(notes) == 1


def test_the_whole_receipt_is_printed_where_it_is_asked_for(ask):
    done = ask(
        "--receipt", "--no-log", "--country", "41", "--prices", "1,2", "--tdp", "30", "--hide-thinking"
    )
    labels = [line.split()[0] for line in done.stderr.splitlines()[1:-1]]
    assert labels == ["prompt", "generated", "seconds", "compute", "read", "energy", "carbon", "money"]
    assert "parameters active per token" in done.stderr.splitlines()[0]
    assert "(41 g/kWh, stated by the user)" in done.stderr
    assert "USD at prices stated by the user" in done.stderr


def test_what_nothing_can_be_counted_with_is_told_before_the_answer(ask):
    done = ask("--country", "Atlantis")
    assert (done.returncode, done.stdout) == (2, "")
    assert "none of the" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return monkeypatch


def test_a_variable_that_is_neither_on_nor_off_is_told(in_process):
    in_process.setenv("ARAIO_RECEIPTS", "perhaps")
    with pytest.raises(LogError, match="ARAIO_RECEIPTS is 'perhaps'; expected on or off"):
        ReceiptKeeper(print, is_off=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "week"}, "expected one of day, model, profile"),
        ({"since": "yesterday"}, "expected a date as in 2026-01-31, or days as in 7d"),
        ({"since": "99999d days"}, "expected a date"),
    ],
)
def test_mistakes_are_told(in_process, options, message):
    with pytest.raises(RequestError, match=message):
        command(**options)


def test_a_time_before_which_nothing_counts(in_process, capsys, make_receipt):
    ReceiptLog().add(make_receipt())
    for since, found in (("1d", 1), ("0d", 0), ("2999-01-01", 0), ("2026-01-01", 1)):
        command(since=since, as_json=True)
        assert len(json.loads(capsys.readouterr().out)["totals"]) == found


def test_a_picture_is_drawn_where_the_library_is(tmp_path, make_receipt):
    pytest.importorskip("matplotlib")
    log = ReceiptLog(tmp_path / "log")
    log.add(make_receipt(), at=0.0)
    log.add(make_receipt(), at=1e9)
    receipts_plot.draw_receipts(log.totals(), tmp_path / "receipts.svg")
    assert "</svg>" in (tmp_path / "receipts.svg").read_text(encoding="utf-8")
    for name in ("receipts.xyz", "receipts"):
        with pytest.raises(RequestError, match=rf"{name}: Format .* is not supported"):
            receipts_plot.draw_receipts(log.totals(), tmp_path / name)
    assert not (tmp_path / "receipts.png").exists()


def test_without_the_library_it_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RequestError, match=r"pip install 'araio\[report\]'"):
        receipts_plot.draw_receipts([], tmp_path / "receipts.png")
