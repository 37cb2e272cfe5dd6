"""The documentation says what is so: generated parts are current, examples run, links lead somewhere."""

import re

import pytest

import araio
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import locate

from .conftest import PAGES, ROOT, code_blocks

EXAMPLES = [
    pytest.param(block, id=f"{page.relative_to(ROOT).as_posix()}-{number}")
    for page in PAGES
    for number, block in enumerate(code_blocks(page, "python"))
]


def test_generated_parts_are_current(load_script):
    pages = load_script("scripts/generate_docs.py").generated_pages()
    stale = [path.name for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, f"{stale}: run scripts/docs"
    names = {
        "README.md",
        "architecture.md",
        "cli.md",
        "environment.md",
        "evaluate.md",
        "plan.md",
        "published-figures.md",
    }
    assert {path.name for path in pages} == names


def test_every_module_has_its_sentence(load_script):
    modules = load_script("scripts/generate_docs.py").module_list()
    package = ROOT / "src" / "araio"
    paths = [path.relative_to(package).as_posix() for path in package.rglob("*.py")]
    missing = [path for path in paths if f"`{path}`" not in modules and not path.endswith("__.py")]
    assert not missing


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A tiny random checkpoint in place of the bundled model: an example must run, not be right."""
    folder = tmp_path_factory.mktemp("docs") / "pocket"
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=1024)
    return folder


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(code, stand_in, monkeypatch, capsys):
    monkeypatch.setitem(locate.BUNDLED, "pocket", stand_in)
    exec(compile(code, "example", "exec"), {})
    if "print(" in code:
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_within_the_repository_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (page.parent / link).exists()]


def test_public_names_are_documented():
    reference = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^::: araio\.(\w+)$", reference, re.MULTILINE))
    assert set(araio.__all__) - {"__version__", "AraioError"} <= documented
    assert "AraioError" in reference
