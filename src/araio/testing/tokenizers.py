"""`write_tiny_tokenizer`: a byte-level BPE tokenizer of 296 tokens, DeepSeek's control tokens among them.

Small enough for a test, complete enough for every path: all bytes, a few merges, digits one by one, control
tokens behind the vocabulary, bos, eos and pad at the ids 0, 1 and 2 as in DeepSeek-V3. Always writes the same
bytes. Read `text/tokenizer.py` next for what reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from araio.text.deepseek import BOS, CONTROL_TOKENS, EOS, PAD
from araio.text.known_templates import R1_CHAT_TEMPLATE
from araio.text.tokenizer import BYTE_ALPHABET

__all__ = ["TINY_VOCAB_SIZE", "tiny_tokenizer_document", "write_tiny_tokenizer"]

SEQUENCE_TOKENS = (BOS, EOS, PAD)

# Each joins two tokens that exist by then. In the alphabet of bytes, "Ġ" is the space, "Ċ" the line break,
# and "Ã", "©" are the two bytes of é.
MERGES = (
    *("h e", "Ġ t", "Ġt he", "i n", "in g", "e r", "o n", "Ġ a", "a n", "an d", "Ġ and", "i s", "Ġ is"),
    *("o u", "y ou", "Ġ you", "l l", "u m", "n um", "num b", "numb er", "Ã ©", "Ġ Ġ", "Ċ Ċ"),
)
TINY_VOCAB_SIZE = len(BYTE_ALPHABET) + len(MERGES) + len(CONTROL_TOKENS)

# DeepSeek-V3 cuts digits into groups of up to three; one by one is what small models learn arithmetic from.
DIGIT = r"\p{N}"
WORD = r"[^\r\n\p{L}\p{P}\p{S}\p{N}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def tiny_tokenizer_document() -> dict[str, Any]:
    """The content of `tokenizer.json`."""
    pieces = [*SEQUENCE_TOKENS, *BYTE_ALPHABET, *(merge.replace(" ", "") for merge in MERGES)]
    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    ids = dict(vocabulary)
    for token in CONTROL_TOKENS:
        ids.setdefault(token, len(ids))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(token, ids[token]) for token in CONTROL_TOKENS],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [_split(DIGIT), _split(WORD), {**_byte_level(), "use_regex": False}],
        },
        "post_processor": None,
        "decoder": _byte_level(),
        "model": {"type": "BPE", "vocab": vocabulary, "merges": list(MERGES)},
    }


def write_tiny_tokenizer(folder: Path, chat_template: str = R1_CHAT_TEMPLATE) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` into `folder`."""
    documents: dict[str, dict[str, Any]] = {
        "tokenizer.json": tiny_tokenizer_document(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": BOS,
            "eos_token": EOS,
            "pad_token": PAD,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 131_072,
            "chat_template": chat_template,
        },
        "generation_config.json": {
            "bos_token_id": SEQUENCE_TOKENS.index(BOS),
            "eos_token_id": SEQUENCE_TOKENS.index(EOS),
            "pad_token_id": SEQUENCE_TOKENS.index(PAD),
            "do_sample": True,
            "temperature": 0.6,
            "top_p": 0.95,
        },
    }
    for name, document in documents.items():
        text = json.dumps(document, ensure_ascii=False, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def _added_token(text: str, token_id: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    # DeepSeek marks only these as special; the others are ordinary added tokens in its files.
    return {"id": token_id, "content": text, **flags, "special": text in SEQUENCE_TOKENS}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _byte_level() -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
