"""The command line as a user meets it: a subprocess, a tiny checkpoint, no network."""

import os
import subprocess
import sys

import pytest

from araio.testing.checkpoints import write_tiny_checkpoint


def clean_environment(extra):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARAIO_")}
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **extra}


@pytest.fixture(scope="session")
def araio_command():
    """Runs `araio` with arguments; text on stdin, or the null device without it."""

    def run(*arguments, stdin=None, cwd=None, **environment):
        # errors="replace": what a random model writes is rarely UTF-8 all through.
        return subprocess.run(
            [sys.executable, "-m", "araio", *map(str, arguments)],
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            cwd=cwd,
            env=clean_environment(environment),
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny checkpoint whose answers are noise."""
    folder = tmp_path_factory.mktemp("cli") / "tiny"
    write_tiny_checkpoint(folder, "v3")
    return folder


@pytest.fixture(scope="session")
def endless(tmp_path_factory):
    """A tiny checkpoint with room for an answer that takes minutes."""
    folder = tmp_path_factory.mktemp("cli") / "endless"
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=131_072)
    return folder
