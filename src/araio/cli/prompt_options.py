"""Options of every command that asks a model prompts from files or from the bundled families, for typer."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["PromptFiles", "PromptNumber", "PromptSeed"]

PromptFiles = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="JSONL of prompt or messages, text with a prompt a line, task:NAMES or domain:NAME; repeatable.",
    ),
]
PromptNumber = Annotated[
    int, typer.Option("--n", help="Problems of each task: or domain: source; a file is read whole.")
]
PromptSeed = Annotated[int, typer.Option(help="The same seed gives the same problems.")]
