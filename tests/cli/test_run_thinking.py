"""`araio run`: effort, votes, the guard, and Ctrl-\\ for the answer now."""

import json
import signal
import subprocess
import sys

import pytest

QUESTION = "What is 47 + 38 - 12?"


def test_votes_are_shown_with_how_many_agree(araio_command):
    done = araio_command("run", QUESTION, "--votes", 3, "--seed", 0, "--no-log")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "73"
    assert "3 of 3 agree: 73" in done.stderr


def test_votes_as_json_hold_every_candidate(araio_command):
    done = araio_command("run", QUESTION, "--votes", 2, "--seed", 0, "--effort", "none", "--json", "--no-log")
    document = json.loads(done.stdout)
    assert document["votes"]["n"] == 2
    assert [
        one["usage"]["completion_tokens_details"]["reasoning_tokens"]
        for one in document["votes"]["candidates"]
    ]
    assert set(document) >= {"model", "content", "usage", "votes"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--votes", 0], "votes is 0; expected an integer from 1 to 256"),
        (["--effort", "much"], "effort is 'much'; expected one of none, minimal, low"),
        (["--thinking-budget", -1], "thinking_budget is -1"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(araio_command, options, message):
    done = araio_command("run", QUESTION, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGQUIT"), reason="no such signal here")
def test_ctrl_backslash_ends_the_thinking_and_not_the_program():
    """Whatever it has thought by then: it answers, and all is well."""
    code = (
        "import os, signal, sys\n"
        "from araio.cli import answer_now, screen\n"
        "think = screen.Screen._think\n"
        "def pressed(self, text):\n"
        "    think(self, text)\n"
        "    os.kill(os.getpid(), signal.SIGQUIT)\n"
        "screen.Screen._think = pressed\n"
        "from araio.cli.main import main\n"
        "sys.argv = ['araio', 'run', 'What is 47 + 38 - 12?', '--no-log']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != ""
    whole = subprocess.run(
        [sys.executable, "-m", "araio", "run", QUESTION, "--no-log"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert len(done.stderr) < len(whole.stderr)
