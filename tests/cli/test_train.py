"""`araio train` as a user meets it; in this process where it can be, since PyTorch starts slowly."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from araio.cli.main import main

KEPT = {"state.safetensors", "metrics.jsonl", "receipt.json", "tokenizer"}
TINY = Path(__file__).parents[1] / "train" / "tiny.toml"


@pytest.fixture
def call(capsys, monkeypatch):
    """Runs `araio train` in this process: exit code, stdout and stderr."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["train", *map(str, arguments)])
        return ended.value.code, *capsys.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def start(*arguments, **options):
    """`araio train` in a process of its own."""
    command = [sys.executable, "-m", "araio", "train", *map(str, arguments), "--threads", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def steps_of(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_stage_that_samples_has_a_line_of_its_own_numbers(call, tmp_path):
    recipe = tmp_path / "sample.toml"
    recipe.write_text("""
        name = "sample"
        start_from = "pocket"
        [[stages]]
        kind = "sample"
        name = "harvest"
        steps = 1
        prompts = 2
        samples = 2
        max_tokens = 64
        sequence_length = 192
        mix = { implication = 1.0 }
    """)
    code, out, err = call(recipe, "--out", tmp_path / "run", "--threads", 1, "--json")
    assert code == 0
    report = json.loads(out)["last_report"]
    assert (report["kind"], report["problems"], report["answers"]) == ("sample", 2, 4)
    assert "step 1/1 harvest: pass@1 " in err
    assert f"{report['solved']} of 2 problems solved" in err


def test_a_limit_of_steps_and_then_the_rest(call, tmp_path):
    code, out, err = call(TINY, "--out", tmp_path, "--steps", 4, "--threads", 1, "--json")
    assert code == 0
    document = json.loads(out)
    assert document.pop("last_report")["step"] == 4
    assert document.pop("receipt")["steps"] == 4
    assert document == {
        "recipe": "tiny",
        "folder": str(tmp_path),
        "step": 4,
        "steps": 10,
        "finished": False,
        "model": None,
    }
    assert "step 4/10 chain: loss " in err
    assert "took 4 steps, " in err
    assert " CO2e" in err
    assert "stopped at step 4 of 10, all saved; raise --steps or leave it out to go on" in err

    code, out, err = call(TINY, "--out", tmp_path, "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["step"], document["finished"]) == (10, True)
    assert document["model"] == str(tmp_path / "model")
    assert f"going on at step 4 of 10 in {tmp_path}" in err
    assert f"araio run --model {tmp_path / 'model'}" in err
    assert steps_of(tmp_path) == [2, 4, 6, 8, 10]

    code, out, _ = call(TINY, "--out", tmp_path, "--json")
    assert (code, json.loads(out)["last_report"]) == (0, None)


def test_a_run_lies_in_runs_under_its_name(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(TINY, "--steps", 1)
    assert (code, out) == (0, "")
    assert (tmp_path / "runs" / "tiny" / "state.safetensors").exists()


def test_a_bad_key_is_one_line_and_leaves_no_folder(call, tmp_path):
    recipe = tmp_path / "bad.toml"
    recipe.write_text(TINY.read_text().replace("log_every", "log_evry"))
    code, out, err = call(recipe, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {recipe}: log_evry is not a key of a recipe; known here: name, ")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TINY.with_name("none.toml")], "none.toml: cannot be read"),
        ([TINY, "--device", "banana"], "device 'banana' is unknown; expected cpu, cuda or cuda:N"),
        ([TINY, "--device", "cuda:99"], "leave out --device to train on the CPU"),
        ([TINY, "--steps", "0"], "--steps"),
        ([], "RECIPE.toml"),
    ],
)
def test_mistakes_are_told_in_one_line(call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_another_recipe_in_the_folder_of_a_run_is_refused(call, tmp_path):
    call(TINY, "--out", tmp_path, "--steps", 1)
    recipe = tmp_path / "other.toml"
    recipe.write_text(TINY.read_text().replace("seed = 3", "seed = 4"))
    code, _, err = call(recipe, "--out", tmp_path)
    assert code == 2
    assert "differs in seed; train into another folder" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path, call):
    recipe = tmp_path / "long.toml"
    recipe.write_text(TINY.read_text().replace("steps = 7", "steps = 100000"))
    run = start(recipe, "--out", tmp_path / "run")
    try:
        seen = next(line for line in run.stderr if line.startswith("step 2/"))
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=120)
    finally:
        run.kill()
    assert seen
    assert run.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("stopped at step ")
    assert last.endswith("all saved; run the same command to go on")
    reached = int(last.split()[3])
    code, _, err = call(recipe, "--out", tmp_path / "run", "--steps", reached + 1)
    assert code == 0
    assert f"going on at step {reached} of " in err


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(call, tmp_path):
    call(TINY, "--out", tmp_path, "--steps", 3)
    state = tmp_path / "state.safetensors"
    before = state.read_bytes()

    def allow_no_big_file():
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))

    run = start(TINY, "--out", tmp_path, preexec_fn=allow_no_big_file)
    out, err = run.communicate(timeout=120)
    assert (run.returncode, out) == (2, "")
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0] == err.splitlines()[-1]
    assert f"{state}: cannot save step 6" in errors[0]
    assert "run the same command to go on from there" in errors[0]
    assert state.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == KEPT
    assert call(TINY, "--out", tmp_path)[0] == 0
    assert steps_of(tmp_path) == [2, 4, 6, 8, 10]
