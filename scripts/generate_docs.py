"""Writes the generated parts of the documentation, so that they cannot drift from the code.

A page holds them between `<!-- generated: NAME -->` and `<!-- end -->`; everything else on it is written by
hand. `tests/house/test_docs.py` fails where a page is not what this script would make of it.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from araio.cli.main import VERBS
from araio.costs.hardware import known_hardware
from araio.costs.published import Figure, published_deployments, published_figures, sparsity_by_batch
from araio.env import VARIABLES
from araio.train.tasks import TASKS
from araio.weights.locate import locate_config

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "araio"

# From the floor that stands on all the others down to the one that stands on none.
FLOORS = (
    ("cli", "adapt", "eval", "train", "serve", "testing"),
    ("api", "engine", "weights", "lens", "nn", "traces"),
    ("kernels", "formats", "text", "costs", "meters", "disk", "expert_profile"),
    ("config", "codecs", "atomic", "json_reader", "memory", "env", "tensors", "quantities", "errors"),
)


def main() -> None:
    for path, text in generated_pages().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"updated {path.relative_to(ROOT)}")


def generated_pages() -> dict[Path, str]:
    """Every page with generated parts, as it should be."""
    makers: Mapping[str, Callable[[], str]] = {
        "commands": command_help,
        "accuracy": accuracy_table,
        "batches": batch_table,
        "deployments": deployment_table,
        "environment": environment_table,
        "figures": figure_tables,
        "hardware": hardware_table,
        "modules": module_list,
        "tasks": task_table,
    }
    pages = {}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        for name, make in makers.items():
            opening = f"<!-- generated: {name} -->\n"
            if opening in text:
                before, rest = text.split(opening)
                _, after = rest.split("<!-- end -->", 1)
                text = pages[path] = f"{before}{opening}\n{make()}\n<!-- end -->{after}"
    return pages


def command_help() -> str:
    """What `araio` and every verb's `--help` print."""
    sections = [("araio", help_text())]
    sections += [(f"araio {verb}", help_text(*verb.split())) for verb in VERBS]
    return "\n".join(f"## {title}\n\n```text\n{text}```\n" for title, text in sections)


def help_text(*verb: str) -> str:
    # Plain and 80 columns wide, whatever the terminal of whoever runs this.
    environment = os.environ | {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "araio", *verb, "--help"]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True).stdout


def accuracy_table() -> str:
    """The first table of the bundled model's card: accuracy by task."""
    lines = (PACKAGE / "models" / "pocket" / "README.md").read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| task"))
    return "\n".join(itertools.takewhile(lambda line: line.startswith("|"), lines[first:])) + "\n"


def environment_table() -> str:
    """The table of `env.py`."""
    rows = [f"| `{entry.name}` | `{entry.default}` | {entry.summary} |" for entry in VARIABLES.values()]
    return "\n".join(["| variable | default | what it does |", "| --- | --- | --- |", *rows, ""])


def figure_tables() -> str:
    """Published figures beside computed ones, a table for each topic."""
    sections = []
    for topic in published_figures(locate_config):
        header = ["| | araio | published | | by |", "| --- | ---: | ---: | --- | --- |"]
        rows = [figure_row(figure) for figure in topic.figures]
        sections.append("\n".join([f"### {topic.title}\n", *header, *rows, ""]))
    return "\n".join(sections)


def figure_row(figure: Figure) -> str:
    notes = "; ".join(filter(None, (figure.how, figure.source)))
    cells = (figure.what, figure.computed_text, figure.published_text, figure.verdict, notes)
    return "| " + " | ".join(cells) + " |"


def batch_table() -> str:
    """Bytes and joules per token of a mixture of experts and of a dense model, by batch."""
    lines = [
        "| batch | experts touched | R1, bytes | 405B, bytes | ratio | V3.1, joules | 405B, joules | ratio |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in sparsity_by_batch(locate_config("deepseek-r1")):
        counted = f"{row.sparse / 1e9:.1f} GB | {row.dense / 1e9:.1f} GB | {row.sparse / row.dense:.2f}"
        measured = " | | "
        if row.measured_j is not None:
            sparse, dense = row.measured_j
            measured = f"{sparse:.2f} | {dense:.2f} | {sparse / dense:.2f}"
        lines.append(f"| {row.batch} | {row.experts:.0f} | {counted} | {measured} |")
    return "\n".join([*lines, ""])


def deployment_table() -> str:
    """Published speeds and energies beside predicted ones."""
    lines = ["| R1 on | | predicted | published | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    for row in published_deployments(locate_config):
        decimals = 0 if row.published > 100 else 2
        numbers = f"{row.predicted:,.{decimals}f} | {row.published:,.{decimals}f} | {row.ratio:.2f}"
        lines.append(f"| {row.what} ({row.source}) | {row.unit} | {numbers} |")
    return "\n".join([*lines, ""])


def hardware_table() -> str:
    """The table of `costs/data/hardware.toml`."""
    lines = [
        "| name | | memory, GB | GB/s | peak, TFLOPS | reached | W | source |",
        "| --- | --- | ---: | ---: | --- | --- | ---: | --- |",
    ]
    for name, row in known_hardware().items():
        memory = f"{row.memory_bytes / 1e9:.0f}" if row.memory_bytes else ""
        peak, reached = (
            ", ".join(f"{number} {speed / 1e12:,.4g}" for number, speed in speeds.items())
            for speeds in (row.peak, row.reached)
        )
        cells = (f"`{name}`", row.title, memory, f"{row.bytes_per_s / 1e9:,.4g}", peak, reached)
        lines.append("| " + " | ".join((*cells, f"{row.watts:.0f}", row.source)) + " |")
    return "\n".join([*lines, ""])


def task_table() -> str:
    """The task families with their domains and summaries."""
    rows = [f"| `{task.name}` | {task.domain} | {task.summary} |" for task in TASKS.values()]
    return "\n".join(["| task | domain | what it asks |", "| --- | --- | --- |", *rows, ""])


def module_list() -> str:
    """Every module in the order of the floors, with the first sentence of its docstring."""
    lines: list[str] = []
    for floor in FLOORS:
        lines += ["| module | what it holds |", "| --- | --- |"]
        for name in floor:
            lines += [f"| `{module}` | {sentence} |" for module, sentence in modules_of(name)]
        lines.append("")
    return "\n".join(lines)


def modules_of(name: str) -> list[tuple[str, str]]:
    """Modules of a package, or the one module of that name, that say what they are."""
    folder = PACKAGE / name
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    found = [(path.relative_to(PACKAGE).as_posix(), first_sentence(path)) for path in paths]
    return [(module, sentence) for module, sentence in found if sentence]


def first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph, maxsplit=1)[0]
    return sentence.replace("|", "\\|")


if __name__ == "__main__":
    main()
