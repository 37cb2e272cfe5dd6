"""Recall: find one line among many, at any length; the miniature of a long-context test.

Each line ties a key of one or two words to a code of four digits, no key twice; documents too long for the
words there are have keys of two. The length of a document is given in tokens, roughly: a line is about 16
tokens of a small vocabulary. A problem is the asked key with its code. Beyond training: documents longer
than the longest trained. Refuses lengths for which there are not enough keys. Read `base.py` for the split.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from araio.errors import RequestError
from araio.train.tasks.answers import normalize
from araio.train.tasks.base import Domain, Example, Split, draw_problem, is_beyond, log_uniform
from araio.train.tasks.words import ADJECTIVES, ANIMALS, NAMES

__all__ = ["MAX_LENGTH", "Recall"]

TOKENS_PER_LINE = 16
MAX_LENGTH = 131_072
"""Longest document in approximate tokens: a context of 128k."""
TRAIN_LENGTHS = (40, 1_000)
BEYOND_LENGTHS = (1_200, 4_000)

KEYS = {
    "one-word keys": (*NAMES, *ANIMALS),
    "two-word keys": tuple(f"{adjective} {animal}" for adjective in ADJECTIVES for animal in ANIMALS),
}
QUESTIONS = (
    "What is the code of {key}?",
    "Which code belongs to {key}?",
    "Tell me the code of {key}.",
)
QUESTIONS_FOR_SEVERAL = ("What are the codes of {keys}?", "Tell me the codes of {keys}.")
MOST_ASKED = 4
MOST_ASKED_OF_LONG = 16


@dataclass(frozen=True)
class Entry:
    """One key and its code."""

    key: str
    code: str

    def __str__(self) -> str:
        return f"The code of {self.key} is {self.code}"


class Recall:
    """Key-value recall of any length; tests ask for one code, training for up to four."""

    name: str = "recall"
    domain: Domain = "language"
    summary: str = "recall one code from a list of any length"

    def generate(self, rng: Random, split: Split, length: int | None = None) -> Example:
        """Draw a document of about `length` tokens and ask for one of its codes.

        Without `length`, 1,000 tokens are the most in training and its tests. Tests have more short documents
        than long ones; training has as many of each length, since the long ones are hard.
        Raises RequestError outside of 1 to MAX_LENGTH.
        """
        if length is not None and not 1 <= length <= MAX_LENGTH:
            raise RequestError(f"recall length {length} is out of range; expected 1 to {MAX_LENGTH} tokens")
        if length is None:
            length = rng.randint(*TRAIN_LENGTHS) if split == "train" else draw_length(rng, split)
        n_entries = max(1, length // TOKENS_PER_LINE)
        # A document is long and an answer short: training asks for several codes to teach more of each.
        most_asked = MOST_ASKED if length <= TRAIN_LENGTHS[1] else MOST_ASKED_OF_LONG
        n_asked = rng.randint(1, min(most_asked, n_entries)) if split == "train" else 1
        kind = rng.choice([kind for kind, keys in KEYS.items() if len(keys) > n_entries + n_asked])
        asked = draw_asked(rng, split, KEYS[kind], n_asked)
        entries = draw_entries(rng, KEYS[kind], n_entries, asked)
        lines = "\n".join(f"{entry}." for entry in entries)
        return Example(
            task=self.name,
            prompt=f"{lines}\n{question_for([entry.key for entry in asked], rng)}",
            reasoning="\n".join(map(str, asked)),
            answer=", ".join(entry.code for entry in asked),
            difficulty=len(entries),
            level=f"{kind}, {level_of(length)}",
            facts={"codes": [entry.code for entry in asked]},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for exactly the four digits of each code, in the order they were asked for."""
        codes: list[str] = example.facts["codes"]
        return re.split(", ?", normalize(answer)) == codes


def level_of(length: int) -> str:
    """The power of two that bounds a document's length, as a name."""
    return f"up to {1 << max(length - 1, 1).bit_length()} tokens"


def draw_length(rng: Random, split: Split) -> int:
    """Log-uniform, so that a test is not made of its longest."""
    shortest, longest = BEYOND_LENGTHS if is_beyond(split) else TRAIN_LENGTHS
    return log_uniform(rng, shortest, longest)


def draw_asked(rng: Random, split: Split, keys: tuple[str, ...], n_asked: int) -> list[Entry]:
    """The entries that are asked for, with distinct keys, each a problem of its own for the split."""

    def draw_entry(rng: Random, beyond: bool) -> Entry:
        del beyond  # beyond training a document is longer, not its lines
        return Entry(rng.choice(keys), draw_code(rng))

    asked: dict[str, Entry] = {}
    while len(asked) < n_asked:
        entry = draw_problem(Recall.name, split, rng, draw_entry, str)
        asked.setdefault(entry.key, entry)
    return list(asked.values())


def draw_entries(rng: Random, keys: tuple[str, ...], n_entries: int, asked: list[Entry]) -> list[Entry]:
    """Entries with distinct keys, the asked ones at random places."""
    taken = {entry.key for entry in asked}
    # As many keys more as are asked for, so that leaving those out still fills the document.
    others = [key for key in rng.sample(keys, n_entries) if key not in taken]
    entries = [Entry(key, draw_code(rng)) for key in others[: n_entries - len(asked)]]
    for entry in asked:
        entries.insert(rng.randint(0, len(entries)), entry)
    return entries


def question_for(keys: list[str], rng: Random) -> str:
    if len(keys) == 1:
        return rng.choice(QUESTIONS).format(key=keys[0])
    return rng.choice(QUESTIONS_FOR_SEVERAL).format(keys=f"{', '.join(keys[:-1])} and {keys[-1]}")


def draw_code(rng: Random) -> str:
    return f"{rng.randrange(10_000):04d}"
