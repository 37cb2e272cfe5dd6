"""The OpenAPI document against the server, by schemathesis with all of its checks."""

import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from araio.testing.checkpoints import write_tiny_checkpoint

# What a schema cannot say is refused, too: a conversation that the model's format does not hold, two fields
# that contradict each other, an answer that is not under way.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "404"]
"""


@pytest.mark.slow
def test_no_request_gets_what_the_document_does_not_promise(start_live, tmp_path):
    # Its context is short, and so is whatever it answers.
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    live = start_live(tmp_path / "tiny")
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    # Made when it is first asked for, which on a busy machine takes longer than schemathesis waits.
    httpx.get(f"{live.url}/openapi.json", timeout=120).raise_for_status()
    command = Path(sys.executable).with_name("schemathesis")
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--continue-on-failure"]
    done = subprocess.run(
        [command, "run", f"{live.url}/openapi.json", *options, "--seed", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert "Tested: " in done.stdout
