"""The project's metadata: what is declared is used, pinned and explained, and what is used is declared."""

import ast
import re
import sys
import tomllib

import pytest

from .conftest import ROOT

PACKAGE = ROOT / "src" / "araio"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Packages by the name that is imported, where it differs, or where another package is made of it and always
# brings it: FastAPI's requests are Starlette's and its types Pydantic's, uvicorn's connections are h11's.
MODULE_OF = {
    "pynvml": "nvidia-ml-py",
    "prometheus_client": "prometheus-client",
    "starlette": "fastapi",
    "pydantic": "fastapi",
    "pydantic_core": "fastapi",
    "h11": "uvicorn",
}


def names(requirements):
    """Names of requirements, those of araio's own extras left out."""
    found = {re.split(r"[\[<>=~! ]", requirement)[0] for requirement in requirements}
    return found - {"araio"}


def imported_by(paths):
    """Top-level packages that files import, from outside of the standard library and of araio."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return {MODULE_OF.get(name, name) for name in found - set(sys.stdlib_module_names) - {"araio"}}


REPORTS = [
    PACKAGE / "cli" / "picture.py",
    PACKAGE / "lens" / "plots.py",
    PACKAGE / "traces" / "exporters" / "parquet.py",
]
# Dumps of SGLang's are files of PyTorch's; whoever reads one has PyTorch.
DUMPS = [PACKAGE / "traces" / "importers" / "sglang.py"]
TRAINING = [
    *(PACKAGE / "train").glob("*.py"),
    *(PACKAGE / "train" / "reason").glob("*.py"),
    PACKAGE / "adapt" / "tune.py",
    PACKAGE / "adapt" / "partly_trained.py",
    PACKAGE / "cli" / "commands" / "train.py",
    PACKAGE / "cli" / "commands" / "tune.py",
]


def test_running_needs_exactly_the_base_dependencies():
    running = [path for path in PACKAGE.rglob("*.py") if path not in [*TRAINING, *REPORTS, *DUMPS]]
    assert imported_by(running) == names(PROJECT["dependencies"])


def test_training_adds_exactly_its_extra():
    base = names(PROJECT["dependencies"])
    assert imported_by(TRAINING) - base == names(EXTRAS["train"])


def test_reports_add_exactly_their_extra():
    base = names(PROJECT["dependencies"])
    assert imported_by(REPORTS) - base == names(EXTRAS["report"])


def test_dumps_need_nothing_but_what_training_has():
    assert imported_by(DUMPS) <= names(PROJECT["dependencies"]) | names(EXTRAS["train"])


@pytest.mark.parametrize("extra", ["base", *EXTRAS])
def test_every_dependency_is_pinned_and_explained(extra):
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==(.+)$", constraints, re.MULTILINE))
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    wanted = names(PROJECT["dependencies"] if extra == "base" else EXTRAS[extra])
    assert wanted <= set(pinned)
    assert not [name for name in wanted if not re.search(rf"^\|.*\b{name}\b", page, re.MULTILINE)]


def test_licence_files_are_there_and_name_what_they_cover():
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])
    assert "src/araio/text/templates/*.jinja" in notice
    assert "src/araio/presets/*.json" in notice


def test_the_changelog_knows_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert PROJECT["version"] in changelog
