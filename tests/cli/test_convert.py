"""`araio convert`: what it prints, what it refuses, and that a store is a MODEL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from araio.cli.main import main


@pytest.fixture
def call(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def test_one_line_says_what_came_of_it(call, tiny, tmp_path):
    code, out, err = call("convert", tiny, tmp_path / "store", "--quant", "q4", "--dense", "q8")
    assert (code, out) == (0, "")
    assert err.count("\n") == 1
    size = sum(path.stat().st_size for path in (tmp_path / "store").glob("*.safetensors"))
    assert f"store: {sizes(tiny)} kB became {size / 1e3:.1f} kB" in err
    assert "bits per weight, in " in err
    codecs = json.loads((tmp_path / "store" / "araio.json").read_text())["codecs"]
    assert codecs == {"experts": "q4", "dense": "q8", "embeddings": "q4"}


def sizes(folder):
    return f"{sum(path.stat().st_size for path in folder.glob('*.safetensors')) / 1e3:.1f}"


def test_json(call, tiny, tmp_path):
    code, out, err = call("convert", tiny, tmp_path / "store", "--quant", "fp8", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["codecs"] == {"experts": "fp8", "dense": "fp8", "embeddings": "bf16"}
    assert document["folder"] == str(tmp_path / "store")
    assert document["bits_per_weight"] == 8 * document["store_bytes"] / document["weights"]
    assert document["seconds"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quant", "q5"], "codec 'q5' is unknown; expected one of f32, bf16, fp8, q8, q4"),
        (["--quant", "q4", "--experts", "Q8"], "codec 'Q8' is unknown"),
        (["--quant", "q4", "--embeddings", "fp8"], "embeddings are not stored as fp8"),
        ([], "Missing option '--quant'"),
    ],
)
def test_mistakes_are_one_line(call, tiny, tmp_path, options, message):
    code, out, err = call("convert", tiny, tmp_path / "store", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_what_exists_and_what_does_not(call, tiny, tmp_path):
    assert "exists already" in call("convert", tiny, tmp_path, "--quant", "q8")[2]
    assert "no folder is called" in call("convert", tmp_path / "no", tmp_path / "out", "--quant", "q8")[2]
    assert "known by its config only" in call("convert", "kimi-k2", tmp_path / "out", "--quant", "q8")[2]


def test_a_store_is_a_model_for_every_command(call, tiny, tmp_path):
    store = tmp_path / "store"
    call("convert", tiny, store, "--quant", "q8")
    code, out, _ = call("run", "--model", store, "hello", "--max-tokens", "4", "--json")
    assert code == 0
    assert json.loads(out)["usage"]["completion_tokens"] <= 4
    code, out, _ = call("show", store, "--json")
    assert json.loads(out)["store"] == {"codecs": {"experts": "q8", "dense": "q8", "embeddings": "q8"}}
    code, out, _ = call("show", store, "--verify")
    assert code == 0
    out = " ".join(out.split())
    assert "experts q8, dense q8, embeddings q8" in out
    assert "a store; every checksum holds" in out
    content = bytearray((store / "experts-00001.safetensors").read_bytes())
    content[5000] ^= 1
    (store / "experts-00001.safetensors").write_bytes(content)
    code, out, err = call("show", store, "--verify")
    assert (code, out) == (2, "")
    assert "the record of layer 1, expert 0, fails its checksum" in err
    assert "has no checksums to verify" in call("show", tiny, "--verify")[2]


def test_ctrl_c_keeps_what_is_complete_and_the_same_command_goes_on(call, tmp_path):
    out = tmp_path / "store"
    command = [sys.executable, "-m", "araio", "convert", "pocket", str(out), "--quant", "q4"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (tmp_path / "store.partial" / "unfinished.json").exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err == b"stopped; what is complete is kept, and the same command goes on from there\n"
    assert not out.exists()
    code, _, _ = call("convert", "pocket", out, "--quant", "q4")
    assert code == 0
    assert not (tmp_path / "store.partial").exists()
