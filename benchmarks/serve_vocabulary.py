"""`Vocabulary`: tokens for a model that has none, because servers give out text.

DeepSeek's control tokens, the bytes, the merges of araio's tiny tokenizer, and a made-up word for every other
id. The same tokens go into a `tokenizer.json` and into a GGUF.
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from araio.config import ModelConfig
from araio.testing.tokenizers import tiny_tokenizer_document, write_tiny_tokenizer
from araio.text.deepseek import BOS, CONTROL_TOKENS, EOS
from araio.text.tokenizer import BYTE_ALPHABET

__all__ = ["Vocabulary"]

WORD_LETTERS = 4  # 456,976 words, more than any vocabulary here wants


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model, as byte-level BPE writes them."""

    config: ModelConfig

    @cached_property
    def pieces(self) -> list[str]:
        """Every token, by its id."""
        config = self.config
        fixed = {config.bos_token_id or 0: BOS, next(iter(config.eos_token_id), 1): EOS}
        others = itertools.chain(
            (token for token in CONTROL_TOKENS if token not in fixed.values()),
            BYTE_ALPHABET,
            (merge.replace(" ", "") for merge in self.merges),
            _words(),
        )
        return [fixed.get(place) or next(others) for place in range(config.vocab_size)]

    @cached_property
    def ids(self) -> dict[str, int]:
        return {piece: place for place, piece in enumerate(self.pieces)}

    @property
    def merges(self) -> list[str]:
        merges: list[str] = tiny_tokenizer_document()["model"]["merges"]
        return merges

    @property
    def begin(self) -> int:
        """The id that opens a sequence."""
        return self.ids[BOS]

    @property
    def end(self) -> int:
        """The id that ends an answer."""
        return self.ids[EOS]

    @cached_property
    def ordinary(self) -> list[int]:
        """The ids of all that is no control token: what prompts are made of."""
        controls = {self.ids[token] for token in CONTROL_TOKENS}
        return [place for place in range(len(self.pieces)) if place not in controls]

    def write(self, folder: Path) -> None:
        """Write the files of a tokenizer into a model's folder."""
        write_tiny_tokenizer(folder)
        (folder / "tokenizer.json").write_text(json.dumps(self._document()), encoding="utf-8")
        (folder / "generation_config.json").unlink()  # it has the ids of the tiny one

    def _document(self) -> dict[str, Any]:
        document = tiny_tokenizer_document()
        document["model"]["vocab"] = self.ids
        for token in document["added_tokens"]:
            token["id"] = self.ids[token["content"]]
        return document


def _words() -> Iterator[str]:
    """Made-up words behind a space, which the alphabet of bytes writes as Ġ."""
    for letters in itertools.product(string.ascii_lowercase, repeat=WORD_LETTERS):
        yield "Ġ" + "".join(letters)
