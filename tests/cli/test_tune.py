"""`araio tune` as a user meets it: from data to an adapter that commands apply, a stop, and mistakes."""

import json
import signal
import subprocess
import sys

import pytest

from araio.cli.main import main
from araio.testing.checkpoints import write_tiny_checkpoint

FEW = ("--n", 12, "--steps", 3, "--rows", 2, "--length", 256, "--threads", 1)


@pytest.fixture
def call(capsys):
    def run(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tune") / "tiny"
    write_tiny_checkpoint(made, "v3", max_position_embeddings=1024)
    return made


def test_from_data_to_an_adapter_that_is_run(call, folder, tmp_path):
    out_folder = tmp_path / "letters"
    code, out, err = call("tune", folder, "--data", "task:letters", "-o", out_folder, *FEW, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["finished"]
    assert document["step"] == 3
    assert document["folder"] == str(out_folder)
    assert document["bytes"] == sum(path.stat().st_size for path in out_folder.iterdir())
    assert document["evaluation"]["loss_before"] > document["evaluation"]["loss_after"]
    assert document["receipt"]["steps"] == 3
    experts = sum(len(ids) for ids in document["experts"].values())
    assert f"training {experts} experts, {experts * 3 * 64 * 24:,} parameters, on " in err
    assert "choosing experts: 0 of 12" in err
    assert "tuning: 0 of 3" in err
    assert f"next: araio run --model {folder} --adapter {out_folder}" in err

    question = ("hello", "--temperature", 0, "--max-tokens", 4, "--json", "--no-log")
    code, out, _ = call("run", folder, "--adapter", out_folder, *question)
    assert code == 0
    assert json.loads(out)["model"] == f"{folder} + letters"
    code, out, _ = call(
        *("eval", folder, "--adapter", out_folder, "--tasks", "letters", "--n", 1, "--max-tokens", 4),
        *("--split", "beyond-test", "--json"),
    )
    assert (code, json.loads(out)["model"]) == (0, f"{folder} + letters")
    code, out, _ = call(
        "convert", folder, tmp_path / "q8", "--quant", "q8", "--adapter", out_folder, "--json"
    )
    assert (code, json.loads(out)["folder"]) == (0, str(tmp_path / "q8"))


def test_a_profiles_experts_are_the_ones_that_are_trained(call, folder, tmp_path):
    profile = tmp_path / "math.json"
    call(
        "profile",
        "fit",
        folder,
        "--prompts",
        "task:chain",
        "--n",
        2,
        "--keep",
        0.5,
        "--no-generate",
        "-o",
        profile,
    )
    code, out, _ = call(
        *("tune", folder, "--data", "task:chain", "--profile", profile, "-o", tmp_path / "a", *FEW, "--json")
    )
    assert code == 0
    assert json.loads(out)["experts"] == json.loads(profile.read_text())["keep"]


def test_everything_is_trained_into_a_checkpoint(call, folder, tmp_path):
    code, out, err = call("tune", folder, "--data", "task:letters", "--full", "-o", tmp_path / "whole", *FEW)
    assert (code, out) == (0, "")
    assert "training everything, " in err
    assert f"next: araio run --model {tmp_path / 'whole'}" in err
    code, _, _ = call("run", tmp_path / "whole", "hello", "--max-tokens", 2, "--no-log")
    assert code == 0


def test_the_same_seed_trains_the_same_experts_on_the_same_lessons(call, folder, tmp_path):
    files = []
    for name in ("a", "b"):
        call("tune", folder, "--data", "task:letters", "-o", tmp_path / name, *FEW)
        files.append((tmp_path / name / "experts.safetensors").read_bytes())
    assert files[0] == files[1]


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(call, folder, tmp_path):
    command = [
        *(sys.executable, "-m", "araio", "tune", str(folder), "--data", "task:letters", "--n", "12"),
        *("--steps", "4000", "--rows", "2", "--length", "256", "--threads", "1", "-o", str(tmp_path / "out")),
    ]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        seen = next(line for line in run.stderr if line.startswith("tuning: 0 of 4,000"))
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=120)
    finally:
        run.kill()
    assert seen
    assert (run.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert f"all kept in {tmp_path / 'out'}.partial; the same command goes on" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    reached = int(err.splitlines()[-1].split()[3])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as again:
        expected = f"going on at step {reached} of 4000" if reached else "tuning: 0 of 4,000"
        try:
            assert any(line.startswith(expected) for line in again.stderr)
        finally:
            again.kill()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "task:chains"], "no task 'chains'; did you mean chain?"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        (["--data", "task:chain", "--p", 0.2, "--full"], "by one of --p, --profile and --full"),
        (["--data", "task:chain", "--p", 0], "p is 0.0; expected a share above 0"),
        (["--data", "task:chain", "--relevance", "mean"], "no relevance 'mean'; expected token or gate"),
        (["--data", "task:chain", "--steps", 0], "steps is 0; expected a number above 0"),
        (["--data", "task:chain", "--learning-rate", "nan"], "learning_rate is nan"),
        (["--data", "task:chain", "--length", 8], "fits into a row of 8 tokens"),
        (["--data", "task:chain", "--device", "banana"], "device 'banana' is unknown"),
        (["--data", "task:chain", "--dtype", "int8"], "--dtype"),
        (["--data", "task:chain", "--split", "test"], "--split"),
        ([], "--data"),
    ],
)
def test_mistakes_are_told_in_one_line(call, folder, tmp_path, options, message):
    code, out, err = call("tune", folder, "-o", tmp_path / "x", "--n", 2, *options)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_of_another_model_is_told_in_one_line(call, folder, tmp_path):
    call("tune", folder, "--data", "task:letters", "-o", tmp_path / "a", *FEW)
    code, out, err = call("run", "pocket", "hello", "--adapter", tmp_path / "a", "--no-log")
    assert (code, out) == (2, "")
    assert err.startswith("error: adapter 'a' was made for tiny, whose ")
    assert err.count("\n") == 1
    code, _, err = call("run", folder, "hello", "--adapter", folder, "--no-log")
    assert code == 2
    assert "holds no adapter.json, so it is no adapter" in err
