"""Every command that README and documentation print exists, with its options and the files it names."""

import re
import shlex
from importlib import import_module

import pytest
import typer

from araio.cli.main import VERBS

from .conftest import PAGES, ROOT, code_blocks


def commands():
    """(page, command) for every line of every shell block."""
    for page in PAGES:
        for block in code_blocks(page, "sh"):
            for line in block.splitlines():
                for command in line.partition(" #")[0].split(" && "):
                    if command.strip():
                        yield page.relative_to(ROOT).as_posix(), command.strip()


COMMANDS = list(commands())


def options_of(verb):
    app = typer.Typer(add_completion=False)
    app.command()(import_module(VERBS[verb].module).command)
    parameters = typer.main.get_command(app).params
    return {name for each in parameters for name in (*each.opts, *each.secondary_opts)} | {"--help"}


def test_there_are_commands_to_check():
    words = {command.split()[0] for _, command in COMMANDS}
    assert {"make", "araio"} <= words


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_printed_command_exists(page, command):
    program, *arguments = shlex.split(command.rpartition("| ")[2])
    match program:
        case "araio":
            check_araio(arguments)
        case "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            assert arguments[0] in targets
        case "source" | ".venv/bin/pre-commit":
            pass  # made by the set-up
        case ".venv/bin/python":
            assert (ROOT / arguments[0]).is_file()
        case _:
            assert (ROOT / program).is_file(), f"{page} prints {program}, which is nowhere"


def check_araio(arguments):
    if not arguments:
        return
    verb, *rest = arguments
    if rest and f"{verb} {rest[0]}" in VERBS:
        verb, *rest = f"{verb} {rest[0]}", *rest[1:]
    assert verb in VERBS
    known = options_of(verb)
    assert {word for word in rest if word.startswith("-")} <= known
    for word in rest:
        if word.endswith(".toml"):
            assert (ROOT / word).is_file()


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_under_help_exist(verb):
    for example in import_module(VERBS[verb].module).EXAMPLES:
        command = re.split(r" {3,}| #", example)[0].rpartition("| ")[2]
        _, *arguments = shlex.split(re.sub(r"^(\w+=\S+ )+", "", command))
        check_araio(arguments)
