"""Plain prose from a folder of .txt files: no question, no answer, only language.

A file holds one paragraph a line. Consecutive paragraphs of one file are joined into documents of a
given size; one document in eight is held out by a hash of its text, so that a loss on unseen prose can
be measured. Refuses a folder without text. Read `base.py` for the split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from araio.errors import RecipeError
from araio.train.tasks.base import is_held_out

__all__ = ["read_documents"]


def read_documents(folder: Path, characters: int, split: Literal["train", "test"]) -> list[str]:
    """All documents of about `characters` characters in the split, in the order of the file names.

    A document ends with the paragraph that fills it; a paragraph longer than a document is cut at
    spaces. Raises RecipeError when the folder cannot be read or holds no text.
    """
    if characters < 1:
        raise RecipeError(f"prose documents of {characters} characters: expected at least 1")
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise RecipeError(f"{folder} holds no .txt file; point it at a folder of plain text")
    documents: list[str] = []
    for file in files:
        documents += join_paragraphs(read_paragraphs(file), characters)
    documents = [text for text in documents if is_held_out("prose", text) == (split == "test")]
    if not documents:
        raise RecipeError(f"{folder} has too little text for a {split} split; add text to it")
    return documents


def read_paragraphs(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read {file} as UTF-8 text: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def join_paragraphs(paragraphs: list[str], characters: int) -> Iterator[str]:
    document: list[str] = []
    size = 0
    for paragraph in paragraphs:
        for piece in cut_at_spaces(paragraph, characters):
            document.append(piece)
            size += len(piece) + 1
            if size >= characters:
                yield "\n".join(document)
                document, size = [], 0
    if document:
        yield "\n".join(document)


def cut_at_spaces(paragraph: str, characters: int) -> Iterator[str]:
    while len(paragraph) > characters:
        space = paragraph.rfind(" ", 1, characters + 1)
        end = space if space > 0 else characters
        yield paragraph[:end]
        paragraph = paragraph[end:].lstrip()
    if paragraph:
        yield paragraph
