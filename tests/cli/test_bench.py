import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

import araio
from araio.cli.commands import bench
from araio.cli.main import main
from araio.eval import ceiling
from araio.eval.speed import SpeedReport
from araio.kernels.select import select
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.testing.turns import Row
from araio.weights import load
from araio.weights.load import Memory, open_model
from araio.weights.machine_memory import MachineMemory

ROW = {
    "name": str,
    "value": float,
    "unit": str,
    "peer": type(None),
    "ratio": type(None),
    "spread": float,
    "limit": float | None,
    "fraction_of_limit": float | None,
}


@pytest.fixture(autouse=True)
def needs_compiled_kernels():
    pytest.importorskip("araio.kernels._native")


def test_json_is_one_document_of_the_promised_shape(araio_command, tiny):
    asked = ["bench", tiny, "--prefill", 16, "--threads", "1,2", "--rounds", 1, "--json"]
    done = araio_command(*asked)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("prefill 16, 1 thread: 0 of 12, 0% after ")
    document = json.loads(done.stdout)
    assert document["araio"] == araio.__version__
    assert document["model"] == str(tiny)
    assert document["threads"] == [1, 2]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", document["date"])
    assert {"machine", "codecs", "active_weight_bytes", "rounds", "notes"} <= set(document)
    assert document["grid"]["country"] == "World"
    for row in document["rows"]:
        is_memory = row["unit"] == "bytes/s"
        assert (row["joules_per_token"] is None) == (row["grams_co2e"] is None) == is_memory
        if not is_memory:
            assert 0 < row["joules_low"] <= row["joules_per_token"] <= row["joules_high"]
            assert row["joules_method"]
        assert all(isinstance(row[key], kind) for key, kind in ROW.items())
    names = ["reading memory", "prefill 16", "decode", "decode 8 together"]
    threads = ["1 thread", "2 threads"]
    assert [row["name"] for row in document["rows"]] == [
        f"{name}, {count}" for count in threads for name in names
    ]


def test_without_a_model_it_measures_the_one_that_run_would_ask(araio_command, tiny):
    asked = ["bench", "--prefill", 16, "--together", 2, "--rounds", 1]
    done = araio_command(*asked, ARAIO_MODEL=tiny, ARAIO_THREADS="1", COLUMNS="200")
    assert done.returncode == 0, done.stderr
    assert f"{tiny} on " in done.stdout
    for words in (
        "prefill 16, 1 thread",
        "decode 2 together, 1 thread",
        "tok/s",
        "GB/s",
        "no limit is given",
    ):
        assert words in done.stdout


def test_eighty_columns_hold_each_row_of_a_small_model_on_one_line(araio_command, tiny):
    asked = ["bench", tiny, "--prefill", 16, "--together", 16, "--rounds", 1, "--threads", 2]
    done = araio_command(*asked, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^decode 16 together, 2 threads .* tok/s .*J$", done.stdout.replace(" \n", "\n"), re.M)
    assert "of it" not in done.stdout  # nothing has a limit, so no column is kept for it


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_speeds_that_are_not_steady_are_warned_of_on_stderr(monkeypatch, capsys, form):
    def measured(**spreads):
        rows = tuple(Row(name, 9.0, "tok/s", 1.0, 99.0, spread) for name, spread in spreads.items())
        machine = {"name": "a processor", "cores_usable": 1}
        report = SpeedReport("tiny", {"q8": 1}, "native", (1,), 5, machine, {}, (), (), rows)
        monkeypatch.setattr(bench, "measure_speed", lambda *_, **__: report)
        with pytest.raises(SystemExit):
            main(["bench", *form])
        return capsys.readouterr()

    assert measured(decode=1.5, prefill=1.1).err == ""
    shown = measured(decode=1.51, prefill=4.0, reading=1.1)
    assert shown.err.startswith("warning: 2 of 3 speeds were not steady enough to compare")
    assert "prefill may differ by a factor of 4.0" in shown.err
    assert shown.err.count("\n") == 1
    assert "warning" not in shown.out


def test_pocket_is_the_default(araio_command):
    done = araio_command("bench", "--prefill", 16, "--rounds", 1, "--threads", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "pocket"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "threads is '0'; expected a number from 1 to"),
        (["--threads", "two"], "--threads is 'two'; expected numbers with commas between them"),
        (["--prefill", "128,"], "--prefill is '128,'"),
        (["--prefill", "9" * 5000], "expected numbers with commas"),
        (["--prefill", "1000"], "the model's context holds 256 tokens"),
        (["--context", "256"], "context is 256; expected at most 252"),
        (["--together", "0"], "together is 0"),
        (["--rounds", "0"], "rounds is 0; expected 1 or more"),
        (["--decode", "3"], "No such option"),
    ],
)
def test_mistakes_are_told_in_one_line(araio_command, tiny, arguments, message):
    done = araio_command("bench", tiny, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_ctrl_c_while_the_bar_moves_ends_it_with_130_and_no_traceback(tiny):
    terminal, stderr = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "araio", "bench", str(tiny), "--rounds", "1000000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(stderr)
    shown = b""
    while b"thread" not in shown:  # measuring has begun
        shown += os.read(terminal, 1024)
    process.send_signal(signal.SIGINT)
    with suppress(OSError):  # what Linux tells of a terminal that nobody writes to any more
        while piece := os.read(terminal, 1024):
            shown += piece
    stdout, _ = process.communicate(timeout=120)
    os.close(terminal)
    assert process.returncode == 130
    assert stdout == b""
    assert b"prefill" in shown
    assert b"Traceback" not in shown


@pytest.fixture
def stream(tmp_path, monkeypatch, capsys):
    """Runs `araio bench stream` on a model of which half of the experts fit; code, stdout, stderr."""
    folder = tmp_path / "model"
    write_tiny_checkpoint(folder, "v2-lite", n_routed_experts=32, moe_intermediate_size=160)
    machine = MachineMemory(total=1 << 40, available=1 << 40, used=10 << 20)
    monkeypatch.setattr(load, "machine_memory", lambda: machine)
    monkeypatch.setattr(ceiling, "SAMPLE_S", 0.01)
    monkeypatch.setenv("COLUMNS", "120")
    budget = open_model(folder, select().ops, Memory(1 << 40)).budget
    size = (budget.smallest + budget.experts // 2) / 2**20

    def run(*arguments):
        asked = ["bench", "stream", str(folder), "--ram", f"{size:.3f}MiB", "--tokens", "6", "--prompt", "20"]
        with pytest.raises(SystemExit) as left:
            main([*asked, *map(str, arguments)])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return run


def test_streaming_is_shown_beside_its_limits(stream):
    code, out, err = stream()
    assert code == 0, err
    assert err.startswith("opening: 0 of 7")
    lines = out.splitlines()
    opening = " ".join(out.split())
    assert re.search(r"model in \d+ MiB of memory on ", opening)
    assert re.search(r" \d+ of 64 experts in memory at a time \(\d+%\), the others read from ", opening)
    for name in (
        "prompt of 20",
        "decoding, 6 tokens",
        "  found in memory",
        "bytes read for a token",
        "disk, while",
    ):
        assert any(line.startswith(name) for line in lines), name
    shares = [
        int(re.search(r" (\d+)% ", line)[1])
        for line in lines
        if re.match("  (found|read ahead|missed)", line)
    ]
    assert sum(shares) == pytest.approx(100, abs=1)


def test_streaming_as_json_and_as_a_picture(stream, tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("stream.png", "stream.svg"):
        code, out, err = stream("--json", "--plot", tmp_path / name)
        assert code == 0, err
        document = json.loads(out)
        assert len(document["tokens"]) == 6
        assert document["counts"]["missed"] == sum(sum(token["missed"]) for token in document["tokens"])
        assert (tmp_path / name).stat().st_size > 5000


def test_a_picture_that_cannot_be_written_costs_no_figure(stream):
    pytest.importorskip("matplotlib")
    code, out, err = stream("--plot", "stream.nothing")
    assert code == 2
    assert "decoding, 6 tokens" in out
    assert "error: --plot stream.nothing: " in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ram", "6"], "--ram is '6'; expected a size"),
        (["--ram", "1GiB"], "every expert fits into 1.0 GiB"),
        (["--ram", "11MiB"], "are too few"),
        (["--tokens", "0"], "tokens is 0"),
        (["--prompt", "255"], "the prompt has 255 tokens"),
        (["--io", "fast"], "io is 'fast'"),
        (["--prefill", "3"], "No such option"),
    ],
)
def test_mistakes_about_streaming_are_told_in_one_line(stream, arguments, message):
    code, out, err = stream(*arguments)
    assert (code, out) == (2, "")
    told = [line for line in err.splitlines() if not line.startswith("opening: ")]
    assert len(told) == 1
    assert message in told[0]


def test_bench_says_what_measures_models_on_disk(araio_command):
    assert "bench stream" in " ".join(araio_command("bench", "--help").stdout.split())
