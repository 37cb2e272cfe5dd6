"""The guide to the server: its examples run against one, its routes and limits are those that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from araio.serve.settings import Settings

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "serve.md").read_text(encoding="utf-8")
PRINTED = "http://127.0.0.1:8484"
KIB = 1 << 10


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


def rows(first):
    """The cells of a table's rows whose first cell begins like that."""
    lines = [line for line in GUIDE.splitlines() if line.startswith(f"| `{first}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("code", blocks("py"))
def test_an_example_runs(code, live, capsys):
    exec(compile(code.replace(PRINTED, live.url), "example", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("code", blocks("bash"))
def test_a_command_runs(code, live, tmp_path):
    if code.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code.replace(PRINTED, live.url)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    written = [path.read_text() for path in tmp_path.iterdir()]
    assert done.stdout or written
    if "chat/completions" in code:
        assert json.loads(done.stdout)["choices"][0]["message"]["content"]


def test_every_route_of_the_table_exists(http):
    paths = http.get("/openapi.json").json()["paths"]
    told = {route for row in rows("POST") + rows("GET") for route in re.findall(r"/[\w/]+", row[0])}
    assert told <= {*paths, "/metrics"}
    assert {path for path in paths if path.startswith("/v1") and "{" not in path} <= told


def test_the_limits_of_the_table_are_the_defaults():
    defaults = Settings().limits()
    units = {"KiB": KIB, "MiB": KIB * KIB, "s": 1, "": 1, "waiting": 1, "under way": 1}
    told = [row for row in rows("") if row[0].strip("`").partition("`")[0] in defaults]
    assert len(told) >= 8
    for names, values, _ in told:
        names = re.findall(r"\w+", names)
        for name, value in zip(names, values.split(","), strict=True):
            number, _, unit = value.strip().partition(" ")
            assert int(number) * units[unit] == defaults[name], name
