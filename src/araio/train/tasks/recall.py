"""Recall: find one line among many, at any length; the miniature of a long-context test.

Each line ties a key of two words to a code of four digits, no key twice. The length of a document is
given in tokens, roughly: a line is about 16 tokens of a small vocabulary. A problem is the asked key
with its code. Beyond training: documents longer than the longest trained. Refuses lengths for which
there are not enough keys. Read `base.py` for the split.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from random import Random

from araio.errors import RequestError
from araio.train.tasks.answers import normalize
from araio.train.tasks.base import Domain, Example, Split, draw_problem
from araio.train.tasks.words import ADJECTIVES, ANIMALS

__all__ = ["MAX_LENGTH", "Recall"]

TOKENS_PER_LINE = 16
MAX_LENGTH = 131_072
"""Longest document in approximate tokens: a context of 128k."""
TRAIN_LENGTHS = (40, 1_000)
BEYOND_LENGTHS = (1_200, 4_000)

QUESTIONS = (
    "What is the code of {key}?",
    "Which code belongs to {key}?",
    "Tell me the code of {key}.",
)


@dataclass(frozen=True)
class Entry:
    """One key and its code."""

    key: str
    code: str

    def __str__(self) -> str:
        return f"The code of {self.key} is {self.code}"


class Recall:
    """Key-value recall of any length."""

    name: str = "recall"
    domain: Domain = "language"
    summary: str = "recall one code from a list of any length"

    def generate(self, rng: Random, split: Split, length: int | None = None) -> Example:
        """Draw a document of about `length` tokens and ask for one of its codes.

        Without `length`, short documents are the most frequent and 1,000 tokens the most in training.
        Raises RequestError outside of 1 to MAX_LENGTH.
        """
        if length is not None and not 1 <= length <= MAX_LENGTH:
            raise RequestError(f"recall length {length} is out of range; expected 1 to {MAX_LENGTH} tokens")
        asked = draw_problem(self.name, split, rng, draw_entry, str)
        if length is None:
            length = draw_length(rng, BEYOND_LENGTHS if split == "beyond" else TRAIN_LENGTHS)
        entries = draw_entries(rng, max(1, length // TOKENS_PER_LINE), asked)
        lines = "\n".join(f"{entry}." for entry in entries)
        return Example(
            task=self.name,
            prompt=f"{lines}\n{rng.choice(QUESTIONS).format(key=asked.key)}",
            reasoning=str(asked),
            answer=asked.code,
            difficulty=len(entries),
            level=level_of(length),
            facts={"code": asked.code},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for exactly the four digits."""
        text = normalize(answer)
        return re.fullmatch("[0-9]{4}", text) is not None and text == example.facts["code"]


def level_of(length: int) -> str:
    """The power of two that bounds a document's length, as a name."""
    return f"up to {1 << max(length - 1, 1).bit_length()} tokens"


def draw_length(rng: Random, bounds: tuple[int, int]) -> int:
    """Log-uniform, so that a stream of examples is not made of its longest."""
    shortest, longest = bounds
    return round(math.exp(rng.uniform(math.log(shortest), math.log(longest))))


def draw_entry(rng: Random, beyond: bool) -> Entry:
    del beyond  # beyond training a document is longer, not its lines
    return Entry(f"{rng.choice(ADJECTIVES)} {rng.choice(ANIMALS)}", draw_code(rng))


def draw_entries(rng: Random, n_entries: int, asked: Entry) -> list[Entry]:
    """Entries with distinct keys, the asked one at a random place."""
    n_keys = len(ADJECTIVES) * len(ANIMALS)
    entries = []
    # One key more than needed is drawn, so that leaving out the asked one still fills the document.
    for index in rng.sample(range(n_keys), n_entries):
        key = f"{ADJECTIVES[index // len(ANIMALS)]} {ANIMALS[index % len(ANIMALS)]}"
        if key != asked.key:
            entries.append(Entry(key, draw_code(rng)))
    entries = entries[: n_entries - 1]
    entries.insert(rng.randint(0, len(entries)), asked)
    return entries


def draw_code(rng: Random) -> str:
    return f"{rng.randrange(10_000):04d}"
