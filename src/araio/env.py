"""Every environment variable araio reads, in one table; the docs page is generated from it.

Precedence everywhere: command-line flag, then environment variable, then default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["VARIABLES", "Variable", "get", "is_set"]


@dataclass(frozen=True)
class Variable:
    """One `ARAIO_*` variable: its name, its default as text, and one sentence on what it does."""

    name: str
    default: str
    summary: str


VARIABLES = {
    variable.name: variable
    for variable in (
        Variable(
            "ARAIO_API_KEYS",
            "",
            "Keys of `araio serve`, separated by commas; `--api-key-file` goes before them.",
        ),
        Variable(
            "ARAIO_CPU_ISA", "auto", "Instruction set of the compiled kernels; `araio doctor` lists them."
        ),
        Variable("ARAIO_KERNELS", "auto", "Kernel backend: `auto`, `native` or `reference`."),
        Variable(
            "ARAIO_SPECULATE",
            "auto",
            "Draft tokens with the model's prediction module: `auto` where it pays, `on` or `off`.",
        ),
        Variable("ARAIO_THREADS", "auto", "Threads of the compiled kernels; `auto` takes every processor."),
        Variable(
            "ARAIO_RAM",
            "auto",
            "Memory for the whole process, as in `6GiB`; experts that do not fit are read from disk when "
            "they are needed. `auto` takes what the machine can spare.",
        ),
        Variable(
            "ARAIO_IO",
            "auto",
            "How experts are read from disk: `direct`, past the page cache, `uring`, so by Linux' io_uring, "
            "`buffered`, or `auto`, direct where the file system can do it.",
        ),
        Variable(
            "ARAIO_MODEL",
            "pocket",
            "The MODEL of `araio run`, `serve`, `show`, `eval` and `bench` when none is given.",
        ),
        Variable("ARAIO_HOST", "127.0.0.1", "The address that `araio serve` listens on."),
        Variable("ARAIO_PORT", "8484", "The port that `araio serve` listens on; `0` takes a free one."),
        Variable(
            "ARAIO_COUNTRY",
            "WORLD",
            "Whose electricity receipts count: a country's code or name, or grams of CO2e per kWh.",
        ),
        Variable(
            "ARAIO_PRICES",
            "auto",
            "Prices on receipts: a list's name, `INPUT,OUTPUT` or `INPUT,CACHED,OUTPUT` in dollars per "
            "million tokens, or `none`; `auto` takes the list that is called like the model.",
        ),
        Variable(
            "ARAIO_RECEIPTS", "on", "Keep the receipts of `araio run` for `araio receipts`: `on` or `off`."
        ),
        Variable(
            "ARAIO_TDP",
            "auto",
            "Watts, at full load, of the processor threads that araio may use, for the energy model; `auto` "
            "knows common processors.",
        ),
    )
}


def get(name: str) -> str:
    """Value of a variable of the table, or its default; a name outside the table is a bug."""
    return os.environ.get(name, "") or VARIABLES[name].default


def is_set(name: str) -> bool:
    """Whether a variable of the table has a value of its own."""
    return bool(os.environ.get(VARIABLES[name].name))
