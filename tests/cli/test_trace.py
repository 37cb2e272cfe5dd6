"""`araio trace` and its kin as a user meets them."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from araio.traces import Trace


def test_prompts_become_a_trace_of_their_domains(araio_command, tiny, tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"prompt": "Why?", "domain": "doubt"}\n{"prompt": "How?"}\n', encoding="utf-8")
    out = tmp_path / "x.moetrace"
    asked = ["trace", tiny, "--prompts", questions, "--tasks", "chain", "--n", 1, "--domain", "mine"]
    done = araio_command(*asked, "--max-tokens", 6, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    document, trace = json.loads(done.stdout), Trace.open(out)
    trace.check()
    assert set(trace.domains) == set(document["domains"]) == {"doubt", "mine", "mathematics"}
    assert document["tokens"] == sum(document["domains"].values()) == trace.tokens
    assert (document["answers"], document["skipped"], document["is_interrupted"]) == (3, [], False)
    assert document["bytes"] == sum(path.stat().st_size for path in out.iterdir())
    assert len(trace.sequences) == 3
    assert f"next: araio lens {out}" in done.stderr


def test_without_prompts_it_asks_all_three_domains(araio_command, tiny, tmp_path):
    done = araio_command("trace", tiny, "--n", 2, "--max-tokens", 3, "--no-text", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trace = Trace.open(next(tmp_path.glob("*.moetrace")))
    assert set(trace.domains) == {"mathematics", "logic", "language"}
    assert not trace.header.has_text
    # What does not fit into the small context of this model is skipped.
    assert len(trace.sequences) == 6 - len(json.loads(done.stdout)["skipped"]) >= 3


def test_a_trace_that_is_there_is_replaced_only_by_force(araio_command, tiny, tmp_path):
    asked = ["trace", tiny, "--tasks", "chain", "--n", 1, "--max-tokens", 3, "--out", tmp_path / "x.moetrace"]
    assert araio_command(*asked).returncode == 0
    refused = araio_command(*asked)
    assert refused.returncode == 2
    assert "exists already; give --force" in refused.stderr
    assert araio_command(*asked, "--force").returncode == 0


def test_a_prompt_that_cannot_be_asked_is_skipped_and_told(araio_command, tiny, tmp_path):
    (tmp_path / "long.txt").write_text("why " * 5000 + "\nWhy?\n", encoding="utf-8")
    asked = ["trace", tiny, "--prompts", tmp_path / "long.txt", "--max-tokens", 3]
    done = araio_command(*asked, "--out", tmp_path / "x.moetrace", "--json")
    assert done.returncode == 0, done.stderr
    assert [entry["source"] for entry in json.loads(done.stdout)["skipped"]] == ["long.txt"]
    assert "skipped a prompt of long.txt" in done.stderr
    (tmp_path / "long.txt").write_text("why " * 5000, encoding="utf-8")
    done = araio_command(*asked, "--out", tmp_path / "y.moetrace")
    assert done.returncode == 2
    assert "no prompt could be asked" in done.stderr
    assert not list(tmp_path.glob("y.*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "chian"], "did you mean chain?"),
        (["--prompts", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        (["--domain", " "], "the domain is ' '"),
        (["--n", 0], "n is 0"),
        (["--batch", 0], "batch is 0"),
        (["--max-tokens", 0], "max_tokens is 0"),
        (["--split", "tset"], "Invalid value for '--split'"),
    ],
)
def test_mistakes_are_told_in_one_line_and_leave_nothing(araio_command, tiny, tmp_path, arguments, message):
    done = araio_command("trace", tiny, *arguments, "--out", tmp_path / "x.moetrace")
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_ctrl_c_keeps_what_was_recorded_and_says_so(tmp_path):
    out = tmp_path / "x.moetrace"
    command = [
        sys.executable,
        "-m",
        "araio",
        "trace",
        "pocket",
        "--n",
        "400",
        "--batch",
        "2",
        "--out",
        str(out),
    ]
    with subprocess.Popen(
        [*command, "--json", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        while not list(tmp_path.glob("x.moetrace.partial/tokens*")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted after" in stderr
    document = json.loads(stdout)
    trace = Trace.open(out)
    trace.check()
    assert document["is_interrupted"]
    assert document["tokens"] == trace.tokens > 0


@pytest.fixture(scope="module")
def recorded(araio_command, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("trace") / "x.moetrace"
    done = araio_command("trace", tiny, "--tasks", "chain", "--n", 2, "--max-tokens", 4, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_show_counts_what_is_there(araio_command, recorded):
    document = json.loads(araio_command("trace", "show", recorded, "--json").stdout)
    assert document["tokens"] == Trace.open(recorded).tokens == sum(document["phases"].values())
    assert document["domains"] == {"mathematics": document["tokens"]}
    assert "mathematics" in araio_command("trace", "show", recorded).stdout


def test_show_tells_of_damage(araio_command, recorded, tmp_path):
    done = araio_command("trace", "show", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_exports_are_written_and_not_over_what_is_there(araio_command, recorded, tmp_path):
    asked = ["trace", "export", recorded, tmp_path / "w.npy", "--to", "eplb"]
    done = araio_command(*asked, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "w.npy").stat().st_size
    trace = Trace.open(recorded)
    assert np.load(tmp_path / "w.npy").sum() == trace.tokens * trace.n_layers * trace.header.top_k
    assert "exists already" in araio_command(*asked).stderr
    assert araio_command(*asked, "--force").returncode == 0
    assert "expected one of" in araio_command("trace", "export", recorded, tmp_path / "x", "--to", "x").stderr


def test_what_others_recorded_becomes_a_trace(araio_command, tiny, tmp_path):
    ids = np.tile(np.arange(4, dtype=np.uint8), (5, 2, 1))
    np.save(tmp_path / "routes.npy", ids)
    out = tmp_path / "x.moetrace"
    done = araio_command("trace", "import", tmp_path / "routes.npy", "--model", tiny, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["domains"] == {"routes": 5}
    assert np.array_equal(Trace.open(out).experts, ids)
    done = araio_command("trace", "import", tmp_path / "routes.npy", "--out", tmp_path / "y.moetrace")
    assert done.returncode == 2
    assert "give the model" in done.stderr
