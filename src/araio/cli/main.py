"""The `araio` command: finds the verb, imports its module, and turns errors into one line and an exit code.

`VERBS` lists the verbs, some of two words; each has a module in `commands/` with a function `command`, whose
annotations typer reads, and `EXAMPLES`, the lines under its help. A module is imported only when its verb is
called, so that `araio --help` loads none of what the verbs need.

Exit codes: 0 done, 2 a user's mistake, 130 Ctrl-C, 1 a closed pipe, which ends the program in silence.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

import araio
from araio.cli.ctrl_c import ctrl_c
from araio.cli.printable import printable
from araio.errors import AraioError

__all__ = ["VERBS", "main"]

USER_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 1


@dataclass(frozen=True)
class Verb:
    """One sub-command: the module that serves it and its line on the first screen."""

    module: str
    summary: str


VERBS = {
    "run": Verb("araio.cli.commands.run", "Ask a question, or talk in a prompt loop; thinking is shown."),
    "serve": Verb("araio.cli.commands.serve", "Serve a model to OpenAI's clients, with a page to talk."),
    "show": Verb("araio.cli.commands.show", "Count a model's parameters, active share and cache bytes."),
    "plan": Verb("araio.cli.commands.plan", "Predict memory, speed and cost of a model on any hardware."),
    "convert": Verb("araio.cli.commands.convert", "Store a model in fewer bits, as the kernels read it."),
    "trace": Verb("araio.cli.commands.trace", "Record which experts every token uses."),
    "trace show": Verb("araio.cli.commands.trace_show", "Tell what a trace holds, and whether it is whole."),
    "trace import": Verb(
        "araio.cli.commands.trace_import", "Make a trace of what SGLang, vLLM or ESFT recorded."
    ),
    "trace export": Verb(
        "araio.cli.commands.trace_export", "Write a trace for EPLB, SGLang or Parquet's readers."
    ),
    "lens": Verb("araio.cli.commands.lens", "Say which experts serve which domain, and how sure that is."),
    "eval": Verb("araio.cli.commands.eval", "Measure accuracy by task, with confidence intervals."),
    "bench": Verb("araio.cli.commands.bench", "Measure speed, beside what this machine's memory allows."),
    "bench stream": Verb(
        "araio.cli.commands.bench_stream", "Measure a model larger than memory: hits, misses, the disk."
    ),
    "profile fit": Verb(
        "araio.cli.commands.profile_fit", "Find the experts that a domain needs, from a few prompts."
    ),
    "profile show": Verb(
        "araio.cli.commands.profile_show", "Tell what a profile keeps, and how far it is from another."
    ),
    "profile eval": Verb(
        "araio.cli.commands.profile_eval", "Measure what a profile costs, and what it saves."
    ),
    "profile export": Verb(
        "araio.cli.commands.profile_export", "Write a smaller checkpoint of the experts that it keeps."
    ),
    "tune": Verb(
        "araio.cli.commands.tune", "Train the experts that a domain uses; a small adapter comes of it."
    ),
    "train": Verb("araio.cli.commands.train", "Train a model by a recipe; stops and resumes safely."),
    "receipts": Verb("araio.cli.commands.receipts", "Sum up what answers took: tokens, joules, CO2e, money."),
    "doctor": Verb("araio.cli.commands.doctor", "Tell what this machine offers and which kernels serve."),
}

PLAIN_WORDS = {
    "Input should be a valid integer, unable to parse string as an integer": "expected a whole number",
    "Input should be a valid number, unable to parse string as a number": "expected a number",
}
"""What is said of an option's value, by what the library that reads it says."""

FIRST_SCREEN = """\
araio {version}: run, serve, inspect and train sparse mixture-of-experts reasoning models

Start here:
  araio run "What is 47 + 38 - 12?"   one question to the bundled model; no download
  araio run                           talk with it
  araio serve                         the same for OpenAI's clients, and a page

Commands:
{verbs}

`araio COMMAND --help` shows options and examples; `araio --version` the version."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    _prepare_streams()
    try:
        ctrl_c.install()
        code = _dispatch(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        code = BROKEN_PIPE
    except KeyboardInterrupt:
        code = INTERRUPTED
    except AraioError as error:
        code = _report(str(error))
    except MemoryError as error:
        found = f" ({error})" if error.args else ""
        code = _report(f"out of memory{found}; close other programs or use a smaller model")
    except OSError as error:
        # A folder that may not be read, a disk that is full: the system's own words name the file.
        code = _report(str(error))
        _discard_output()
    sys.exit(code)


def _prepare_streams() -> None:
    """Make the three streams usable whatever the caller closed and whatever the locale can spell."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case [] | ["--help" | "-h" | "help"]:
            _print(FIRST_SCREEN.format(version=araio.__version__, verbs=_first_words()))
            return 0
        case ["--version" | "-V", *_]:
            _print(f"araio {araio.__version__}")
            return 0
        case ["help", *words] if words:
            return _dispatch([*words, "--help"])
        case [name, form, *rest] if f"{name} {form}" in VERBS:
            return _call(f"{name} {form}", rest)
        case [name, *rest] if name in VERBS:
            return _call(name, rest)
        case [name, "--help" | "-h"] if forms := _forms(name):
            _print(f"Commands:\n{_lines(forms)}")
            return 0
        case [name, *_]:
            return _report(_unknown(name))
    raise AssertionError(arguments)


def _lines(names: Iterable[str]) -> str:
    return "\n".join(f"  {name:<16}{VERBS[name].summary}" for name in names)


def _first_words() -> str:
    """A line for each first word of a verb, with the second words that there are."""
    lines = []
    for name in dict.fromkeys(verb.split()[0] for verb in VERBS):
        forms = _forms(name)
        others = ", ".join(form.split()[1] for form in forms)
        summary = VERBS[name].summary if name in VERBS else VERBS[forms[0]].summary
        lines.append(f"  {name:<10}{summary}" + (f" Also: {others}." if name in VERBS and forms else ""))
        if name not in VERBS:
            lines[-1] = f"  {name:<10}{others}: {summary}"
    return "\n".join(lines)


def _forms(name: str) -> list[str]:
    """The verbs of two words that begin with this one."""
    return [verb for verb in VERBS if verb.startswith(f"{name} ")]


def _unknown(name: str) -> str:
    if name.startswith("-"):
        return f"unknown option {name}; options follow a command: {', '.join(VERBS)}"
    if forms := _forms(name):
        return f"`araio {name}` is several commands: {', '.join(forms)}"
    close = get_close_matches(name, VERBS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"commands: {', '.join(VERBS)}"
    return f"no command {name!r}; {hint}"


def _call(name: str, arguments: list[str]) -> int:
    """Run one verb through typer, whose own errors become ours."""
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    module = import_module(VERBS[name].module)
    ctrl_c.check()
    # \b keeps the lines of the block as they are.
    examples = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in module.EXAMPLES)
    app.command(epilog=examples)(module.command)
    try:
        # Outside of its standalone mode typer hands back the exit code, or None from a command that ended.
        return app(arguments, prog_name=f"araio {name}", standalone_mode=False) or 0
    except typer.TyperException as error:
        return _report(f"{_plain(error.format_message())} (see `araio {name} --help`)")


def _plain(complaint: str) -> str:
    """What typer says of an option, without the words of the library that reads it."""
    for said, expected in PLAIN_WORDS.items():
        complaint = complaint.replace(said, expected)
    return complaint


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _report(message: str) -> int:
    # One harmless line whatever a file name, a value or a template's own words in the message hold.
    sys.stderr.write("error: " + printable(" ".join(message.split())) + "\n")
    return USER_ERROR


def _discard_output() -> None:
    # The interpreter flushes stdout once more on its way out, and would print an error of its own.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
