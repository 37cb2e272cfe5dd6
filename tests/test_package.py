"""What `import araio` promises: it is light, and its public names are where they should be."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import araio

HEAVY = {
    "torch",
    "numpy",
    "matplotlib",
    "transformers",
    "tokenizers",
    "huggingface_hub",
    "jinja2",
    "typer",
    "rich",
}


def modules_after(code):
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_import_loads_nothing_heavy():
    assert not modules_after("import araio") & HEAVY


def test_the_first_screen_loads_nothing_heavy():
    code = """
from araio.cli.main import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
"""
    assert not modules_after(code) & HEAVY


@pytest.mark.parametrize("verb", ["run", "eval", "doctor", "show"])
def test_no_verb_but_train_loads_torch(verb):
    code = f"import araio.cli.commands.{verb}"
    assert not modules_after(code) & {"torch", "matplotlib", "transformers", "huggingface_hub"}


def test_a_model_waits_for_nothing_that_only_receipts_need():
    assert not modules_after("import araio.cli.commands.run") & {"sqlite3", "tomllib", "csv", "pynvml"}


def test_every_public_name_exists_and_is_listed():
    for name in araio.__all__:
        assert getattr(araio, name) is not None
    assert dir(araio) == sorted(araio.__all__)


def test_an_unknown_name_lists_the_public_ones():
    with pytest.raises(AttributeError, match=r"'laod'.*load"):
        araio.laod  # noqa: B018


def test_the_version_is_that_of_the_project():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1] == araio.__version__
