"""Set-up without a network: `scripts/install` and `make run` over a stand-in for the virtual environment."""

import os
import shutil
import subprocess
import time

import pytest

from .conftest import ROOT

RECORDER = '#!/bin/sh\nprintf "%s|" "$@" >> "$LOG"\necho >> "$LOG"\n'


@pytest.fixture
def clone(tmp_path):
    """The files that decide what is installed, and a .venv whose programs only note how they were called."""
    for name in ("pyproject.toml", "constraints.txt", "CMakeLists.txt", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for package in ("disk", "kernels"):
        (tmp_path / "src/araio" / package / "csrc").mkdir(parents=True)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "araio"):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    return tmp_path


def run(clone, *command):
    """Run a command in the clone; the calls that it made, one list of arguments each."""
    log = clone / "log"
    log.write_text("")
    environment = os.environ | {"LOG": str(log)}
    subprocess.run(command, cwd=clone, env=environment, check=True, capture_output=True)
    return [line.rstrip("|").split("|") for line in log.read_text().splitlines()]


def installed(calls):
    return [call[-1] for call in calls if "install" in call]


def test_installing_again_does_nothing(clone):
    assert installed(run(clone, "scripts/install")) == ["."]
    assert run(clone, "scripts/install") == []


def test_each_extra_is_installed_once(clone):
    assert installed(run(clone, "scripts/install", "check", "train")) == [".[check,train]"]
    assert run(clone, "scripts/install") == []
    assert run(clone, "scripts/install", "train") == []
    assert installed(run(clone, "scripts/install", "test")) == [".[test]"]


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt", "src/araio/disk/csrc/new.cpp"])
def test_a_change_of_what_is_installed_installs_again(clone, changed):
    run(clone, "scripts/install")
    later = time.time() + 5
    (clone / changed).touch()
    os.utime(clone / changed, (later, later))
    assert installed(run(clone, "scripts/install")) == ["."]


def test_versions_are_constrained(clone):
    call = run(clone, "scripts/install")[0]
    assert call[call.index("--constraint") + 1] == "constraints.txt"


@pytest.mark.parametrize("question", ["What is 17 + 25?", 'What\'s "3" + $5 `really`?'])
def test_make_run_asks_the_question_as_it_was_typed(clone, question):
    calls = run(clone, "make", "run", f"Q={question}")
    assert calls[-1] == ["run", "--prompt", question]


def test_make_run_has_a_question_of_its_own(clone):
    assert run(clone, "make", "run")[-1] == ["run", "--prompt", "What is 47 + 38 - 12?"]


@pytest.mark.parametrize(
    "script", sorted(path.name for path in (ROOT / "scripts").glob("*") if not path.suffix)
)
def test_a_script_is_executable_bash_and_says_what_it_does(script):
    path = ROOT / "scripts" / script
    shebang, comment, *_ = path.read_text(encoding="utf-8").splitlines()
    assert shebang == "#!/usr/bin/env bash"
    assert comment.startswith("# ")
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
