"""Batches of packed documents, each a pure function of the seed and the step.

A document is a conversation of a task family, of which only reasoning and answer are learned, or a piece
of prose, of which everything is. Documents are packed whole into rows: none is cut, and the model's mask
keeps attention and labels inside each. There is no state to save: batch n is the same whenever it is asked
for, so a resumed run sees the data of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from araio.errors import RecipeError, TrainingError
from araio.text.deepseek import ASSISTANT, BOS, END_THINK, EOS, PAD, THINK, USER
from araio.text.tokenizer import Tokenizer
from araio.train.positions import skip_positions
from araio.train.recipe import PROSE
from araio.train.tasks import TASKS, Example
from araio.train.tasks.base import log_uniform
from araio.train.tasks.prose import read_documents
from araio.train.tasks.recall import Recall

__all__ = [
    "IGNORE",
    "PROSE_CHARACTERS",
    "Batch",
    "BatchStream",
    "Document",
    "DocumentSource",
    "Documents",
    "Encoder",
    "read_prose",
]

DataSplit: TypeAlias = Literal["train", "test", "beyond-train"]

IGNORE = -100
"""Label of a position that nothing is learned from (PyTorch's default)."""

PROSE_CHARACTERS = 2000
"""Longest piece of prose; shorter where rows are short, at two characters a token to leave room."""
MISFITS_UNTIL_FULL = 6
"""A batch is full when this many documents fitted nowhere; fewer would leave rows emptier."""
LENGTH_SAMPLE = 64
"""Documents that the mean length of a family is measured on."""
MAX_REDRAWS = 200
"""Documents of a family in a row that may be longer than a row before the family is refused."""


@dataclass(frozen=True)
class Document:
    """Token ids of one document; those from `first_learned` (at least 1) on are labels.

    positions  of each token, ascending; 0 and on if None
    """

    ids: list[int]
    first_learned: int
    positions: Sequence[int] | None = None


@dataclass(frozen=True)
class Batch:
    """Rows of packed documents, all (B, T) and int64 but the last.

    tokens     ids, padding at the end of a row
    labels     the next token, or IGNORE across documents, in questions and in padding
    documents  number of the document within its row; padding has numbers of its own
    positions  position within the document, with gaps where the stage stretches it
    is_token   bool, False in padding
    """

    tokens: Tensor
    labels: Tensor
    documents: Tensor
    positions: Tensor
    is_token: Tensor

    @property
    def learned_tokens(self) -> int:
        return int((self.labels != IGNORE).sum())

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, entry.name).to(device) for entry in fields(self)))


class Encoder:
    """Examples and prose to documents, in the format of DeepSeek-R1's chat template.

    It encodes with the class that serves the model later, so a question has the ids here that `ChatFormat`
    will give it, and a control token spelled out in a text stays text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        names = (BOS, EOS, PAD, USER, ASSISTANT, THINK, END_THINK)
        self.bos, self.eos, self.pad, self.user, self.assistant, self.think, self.end_think = (
            self.control(name) for name in names
        )

    @cached_property
    def line_ends(self) -> frozenset[int]:
        """The tokens that end a line."""
        size = self.tokenizer.vocab_size
        return frozenset(token for token in range(size) if self.tokenizer.decode([token]).endswith("\n"))

    def control(self, name: str) -> int:
        token = self.tokenizer.token_id(name)
        if token is None:
            raise TrainingError(f"the tokenizer of the run has no token {name!r}; start in a new folder")
        return token

    def conversation(self, example: Example) -> Document:
        """Question, reasoning and answer; the question and the prefilled `<think>` are not learned."""
        encode = self.tokenizer.encode
        asked = [self.bos, self.user, *encode(example.prompt)]
        opening = [self.assistant, self.think, *encode("\n")]
        reasoning = [*encode(example.reasoning), *encode("\n"), self.end_think]
        answer = [*encode("\n\n"), *encode(example.answer), self.eos]
        return Document(asked + opening + reasoning + answer, len(asked) + len(opening))

    def prose(self, text: str) -> Document:
        """A piece of text between the tokens that open and end a sequence; all of it is learned."""
        return Document([self.bos, *self.tokenizer.encode(text), self.eos], 1)


def read_prose(folder: Path | None, characters: int, split: DataSplit = "train") -> list[str]:
    """Pieces of about `characters` characters; RecipeError where there is no folder or no text."""
    if folder is None:
        raise RecipeError(f"the mix asks for {PROSE}, but no folder of text is given; pass --prose-folder")
    return read_documents(folder, characters, "test" if split == "test" else "train")


class Documents(Protocol):
    """Where a stream's documents come from."""

    @property
    def pad(self) -> int:
        """The token that fills rows; no text encodes to it."""

    def draw(self, rng: Random) -> Document:
        """The next one, which depends on the generator alone."""


class DocumentSource:
    """Draws documents at rates that give each family its share of the tokens, by its mean length.

    Packing then favours short documents a little, for they fit where long ones no longer do: two families
    of 60 and 900 tokens with equal shares get 53.5 % and 46.5 % in eight rows of 1,024 tokens.
    """

    def __init__(
        self,
        encoder: Encoder,
        mix: Mapping[str, float],
        max_length: int,
        prose_folder: Path | None,
        split: DataSplit = "train",
        list_tokens: Sequence[int] | None = None,
        position_span: int | None = None,
    ) -> None:
        self.encoder = encoder
        self.list_tokens = list_tokens
        self.position_span = position_span
        self.max_length = max_length
        self.split = split
        self.names = [name for name, share in mix.items() if share > 0]
        self.prose: list[str] = []
        if PROSE in self.names:
            self.prose = read_prose(prose_folder, min(PROSE_CHARACTERS, 2 * max_length), split)
        self.rates = [mix[name] / self.mean_length(name) for name in self.names]

    @property
    def pad(self) -> int:
        return self.encoder.pad

    def mean_length(self, name: str) -> float:
        rng = Random(f"length of {name}")
        return sum(len(self.draw_one(name, rng).ids) for _ in range(LENGTH_SAMPLE)) / LENGTH_SAMPLE

    def draw(self, rng: Random) -> Document:
        (name,) = rng.choices(self.names, self.rates)
        return self.draw_one(name, rng)

    def draw_one(self, name: str, rng: Random) -> Document:
        """One document of a family, drawn anew while it is longer than a row."""
        for _ in range(MAX_REDRAWS):
            if name == PROSE:
                document = self.encoder.prose(rng.choice(self.prose))
            else:
                document = self.encoder.conversation(self.draw_example(name, rng))
            if len(document.ids) <= self.max_length:
                return self.stretched(name, document, rng)
        raise RecipeError(
            f"{name} makes no document of at most {self.max_length} tokens; raise sequence_length"
        )

    def draw_example(self, name: str, rng: Random) -> Example:
        """A problem of a family; a list as long as the stage says, if it says so."""
        task = TASKS[name]
        if isinstance(task, Recall) and self.list_tokens is not None:
            return task.generate(rng, self.split, log_uniform(rng, *self.list_tokens))
        return task.generate(rng, self.split)

    def stretched(self, name: str, document: Document, rng: Random) -> Document:
        """The document, with skips in the positions of its list if the stage has a span of them."""
        if self.position_span is None or not isinstance(TASKS.get(name), Recall):
            return document
        return skip_positions(document, self.encoder.line_ends, self.position_span, rng)


class BatchStream:
    """Packs documents into batches; `batch(step)` depends on seed, step and the source alone."""

    def __init__(self, source: Documents, rows: int, length: int, seed: int) -> None:
        self.source = source
        self.rows = rows
        self.length = length
        self.seed = seed

    def batch(self, step: int) -> Batch:
        rng = Random(f"{self.seed} {step}")
        rows: list[list[Document]] = [[] for _ in range(self.rows)]
        free = [self.length] * self.rows
        misfits = 0
        while misfits < MISFITS_UNTIL_FULL:
            document = self.source.draw(rng)
            fitting = [row for row in range(self.rows) if free[row] >= len(document.ids)]
            if not fitting:
                misfits += 1
                continue
            # Best fit: the row that is left with the least space keeps the others open for long documents.
            row = min(fitting, key=free.__getitem__)
            rows[row].append(document)
            free[row] -= len(document.ids)
        return self.collate(rows)

    def collate(self, rows: list[list[Document]]) -> Batch:
        shape = (self.rows, self.length)
        tokens = torch.full(shape, self.source.pad)
        labels = torch.full(shape, IGNORE)
        # Padding attends to itself only: a position is its own document until one is written over it.
        documents = torch.arange(self.length).repeat(self.rows, 1)
        positions = torch.zeros(shape, dtype=torch.int64)
        for row, packed in enumerate(rows):
            start = 0
            for document in packed:
                ids = torch.tensor(document.ids)
                end = start + len(ids)
                tokens[row, start:end] = ids
                first = document.first_learned
                labels[row, start + first - 1 : end - 1] = ids[first:]
                documents[row, start:end] = start
                within = range(len(ids)) if document.positions is None else document.positions
                positions[row, start:end] = torch.tensor(within)
                start = end
        # No text encodes to the padding token, so it stands nowhere else.
        return Batch(tokens, labels, documents, positions, tokens != self.source.pad)
