"""A small byte-level BPE tokenizer, trained on the very text a recipe trains on.

Digits stay single tokens, so that arithmetic sees places; DeepSeek's literal control tokens are single ids,
so that the R1 chat template and every parser of it serve a small model and the real ones alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from araio.errors import TrainingError
from araio.text.deepseek import BOS, CONTROL_TOKENS, EOS, PAD
from araio.text.known_templates import R1_CHAT_TEMPLATE
from araio.train.tasks import TASKS

__all__ = ["canonical_json", "save_tokenizer", "tokenizer_texts", "train_tokenizer"]


def tokenizer_texts(
    families: Iterable[str], characters: int, prose: Sequence[str], seed: int
) -> Iterator[str]:
    """Text to train a tokenizer on: `characters` of every family, and eight times as much prose.

    Templated questions are soon exhausted; prose holds far more words that are worth a token.
    """
    rng = Random(f"{seed} tokenizer")
    for family in families:
        left = characters
        while left > 0:
            example = TASKS[family].generate(rng, "train")
            for text in (example.prompt, example.reasoning, example.answer):
                left -= len(text)
                yield text
    left = 8 * characters if prose else 0
    while left > 0:
        text = rng.choice(prose)
        left -= len(text)
        yield text


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE of `vocab_size` tokens, control tokens first; every text encodes and decodes exactly."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def canonical_json(folder: Path) -> str:
    """The tokenizer of a folder as one line of JSON, the same however the file is laid out."""
    return Tokenizer.from_file(str(folder / "tokenizer.json")).to_str()


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` with the R1 template, and `generation_config.json`.

    Raises:
        TrainingError: the disk is full or not writable.
    """
    configuration = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": R1_CHAT_TEMPLATE,
    }
    generation = {
        "bos_token_id": tokenizer.token_to_id(BOS),
        "eos_token_id": tokenizer.token_to_id(EOS),
        # Worked problems have one right next step: the likeliest token, not a drawn one.
        "do_sample": False,
    }
    # The library's own `save` fails with an exception of no type; its text goes the way of the others.
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    for name, document in (("tokenizer_config.json", configuration), ("generation_config.json", generation)):
        write_text(folder / name, json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written ({error.strerror}); free some space and run the same command again"
        ) from None
