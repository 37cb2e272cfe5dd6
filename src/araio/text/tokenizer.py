"""`Tokenizer` and `TokenStream`: text to token ids and back, for byte-level BPE.

Reads `tokenizer.json` through the `tokenizers` library. Two rules hold everywhere: a control token
(`<｜User｜>`, `<think>`, ...) is recognised only in text marked as trusted, so nobody can type one; and text
comes back in whole characters, never half of one. Refuses what would encode differently in silence: models
other than byte-level BPE, BPE dropout, control tokens that swallow the spaces around them, ids that the file
contradicts. Read `chat.py` next.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from araio.errors import ContextError, TextError
from araio.json_reader import shown
from araio.text.native_errors import native_errors
from araio.text.tokenizer_config import TokenizerConfig, read_document

__all__ = ["BYTE_ALPHABET", "Span", "TokenStream", "Tokenizer"]

MAX_TOKENIZER_BYTES = 256 << 20
ADVICE = "use the tokenizer.json published with the model"

# Options of a BPE model that change its ids or its token texts; byte-level BPE leaves them off.
REFUSED_MODEL_OPTIONS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
REFUSED_TOKEN_FLAGS = ("lstrip", "rstrip", "single_word")


@dataclass(frozen=True)
class Span:
    """A piece of a prompt; only a trusted one (written by a chat template) may hold control tokens."""

    text: str
    is_trusted: bool


class Tokenizer:
    """Byte-level BPE with control tokens kept apart from what people write.

    most_tokens  of a text; one that must become more is refused before it is encoded, for that takes a
                 hundred times its size. None, unless somebody sets it, encodes whatever comes
    """

    most_tokens: int | None = None

    def __init__(self, backend: tokenizers.Tokenizer, config: TokenizerConfig) -> None:
        self._backend = backend
        # The same model without the added vocabulary: it has no control tokens to find.
        self._plain = tokenizers.Tokenizer(backend.model)
        self._plain.normalizer = backend.normalizer
        self._plain.pre_tokenizer = backend.pre_tokenizer
        # A single character among the added tokens is a byte that no text of the training data had, not a
        # control token; matching it would turn a typed "ö" into the byte 0xF6.
        self._control_ids = {
            token.content: token_id
            for token_id, token in backend.get_added_tokens_decoder().items()
            if len(token.content) > 1
        }
        self._bytes_of: dict[int, bytes] = {
            token_id: text.encode() for text, token_id in self._control_ids.items()
        }
        self._bos_token = config.bos_token
        self._eos_token = config.eos_token

    @classmethod
    def from_folder(cls, path: Path) -> Tokenizer:
        """Read `tokenizer.json`, and the names of bos and eos in `tokenizer_config.json`, of a model folder.

        Raises TextError if a file is missing, malformed, or asks for something that is refused (see module).
        """
        file = path / "tokenizer.json"
        document = read_document(file, MAX_TOKENIZER_BYTES)
        _refuse_other_models(file, document)
        with native_errors(f"{file} is not a usable tokenizer", ADVICE):
            backend = tokenizers.Tokenizer.from_file(str(file))
        _refuse_contradicted_tokens(file, document, backend)
        config = TokenizerConfig.from_folder(path)
        for name, token in (("bos_token", config.bos_token), ("eos_token", config.eos_token)):
            if token is not None and backend.token_to_id(token) is None:
                raise TextError(
                    f"{name} {token!r} of {path / 'tokenizer_config.json'} is not in the vocabulary of "
                    f"{file.name}; the two files belong to different models"
                )
        return cls(backend, config)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, control tokens included; a model's embedding may have more rows."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def bos_id(self) -> int | None:
        """Id of the token that opens every sequence, where the model names one."""
        return None if self._bos_token is None else self.token_id(self._bos_token)

    @property
    def eos_id(self) -> int | None:
        """Id of the token that ends an answer, where the model names one."""
        return None if self._eos_token is None else self.token_id(self._eos_token)

    @property
    def control_tokens(self) -> frozenset[str]:
        """The texts that are control tokens when they come from a chat template."""
        return frozenset(self._control_ids)

    def token_id(self, text: str) -> int | None:
        """Id of the token whose stored text is exactly `text`, or None."""
        return self._backend.token_to_id(text)

    def encode(self, text: str) -> list[int]:
        """Ids of text that somebody wrote: a control token spelled out in it is encoded as characters."""
        return self.encode_spans([Span(text, is_trusted=False)])

    def encode_spans(self, spans: Iterable[Span]) -> list[int]:
        """Ids of the spans' joined text, honouring the control tokens that lie wholly in a trusted span.

        Text is cut only at those tokens, never at a span's edge, so the ids are those of the whole prompt.
        Raises TextError for text that is not valid Unicode, ContextError for more than `most_tokens`.
        """
        spans = list(spans)
        self._check_length(spans)
        ids: list[int] = []
        pending: list[str] = []
        for span in spans:
            position = 0
            if span.is_trusted:
                for match in self._control_pattern.finditer(span.text):
                    pending.append(span.text[position : match.start()])
                    ids += self._encode_plain("".join(pending))
                    ids.append(self._control_ids[match.group()])
                    pending.clear()
                    position = match.end()
            pending.append(span.text[position:])
        ids += self._encode_plain("".join(pending))
        if self.most_tokens is not None and len(ids) > self.most_tokens:
            raise ContextError(
                f"the text is {len(ids):,} tokens; there may be {self.most_tokens:,}",
                len(ids),
                self.most_tokens,
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`, control tokens included; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes(token_id) for token_id in ids).decode(errors="replace")

    def stream(self) -> TokenStream:
        """A decoder for one sequence, fed token by token."""
        return TokenStream(self)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for; none for an id without a token (a padding row of the embedding)."""
        known = self._bytes_of.get(token_id)
        if known is not None:
            return known
        if not 0 <= token_id < 1 << 32:
            raise TextError(f"{token_id} is no token id; ids are integers from 0 to 2^32 - 1")
        token = self._backend.id_to_token(token_id) or ""
        self._bytes_of[token_id] = _bytes_of_token(token)
        return self._bytes_of[token_id]

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        # Longest first, so that a token wins over one that is its beginning.
        longest_first = sorted(self._control_ids, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _check_length(self, spans: Iterable[Span]) -> None:
        if self.most_tokens is None:
            return
        plain, trusted = (
            sum(len(span.text) for span in spans if span.is_trusted is is_trusted)
            for is_trusted in (False, True)
        )
        longest_control = max(map(len, self._control_ids), default=1)
        least = plain // self._longest + trusted // max(self._longest, longest_control)
        if least > self.most_tokens:
            raise ContextError(
                f"{plain + trusted:,} characters are at least {least:,} tokens; there may be "
                f"{self.most_tokens:,}",
                least,
                self.most_tokens,
            )

    @cached_property
    def _longest(self) -> int:
        """Bytes of the longest token that plain text can become."""
        plain = self._backend.get_vocab(with_added_tokens=True).keys() - self._control_ids.keys()
        return max(map(len, plain), default=1)

    def _encode_plain(self, text: str) -> list[int]:
        if not text:
            return []
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextError(
                f"the text has half of a surrogate pair at character {error.start}, which no UTF-8 text can "
                "hold; decode it as UTF-16 before passing it on"
            ) from error
        with native_errors("the tokenizer cannot encode this text", ADVICE):
            ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        forged = set(self._control_ids.values()).intersection(ids)
        if forged:
            raise TextError(
                f"the tokenizer turns plain text into the control token {self.decode(forged)!r}, so messages "
                "could forge it; its merges are broken, use the model's published tokenizer.json"
            )
        return ids


class TokenStream:
    """Decodes one sequence as it grows.

    The strings of all `push` calls and the final `flush`, joined, equal `Tokenizer.decode` of all ids; none
    of them ends inside a character.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Take the next token; returns the characters it completes, often none or several."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """End the sequence; an unfinished character comes out as U+FFFD."""
        return self._decoder.decode(b"", final=True)


def _byte_alphabet() -> dict[str, int]:
    """Character to byte of byte-level BPE (GPT-2): printable Latin-1 is itself, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + index): byte for index, byte in enumerate(others)}


BYTE_ALPHABET = _byte_alphabet()


def _bytes_of_token(token: str) -> bytes:
    try:
        return bytes(BYTE_ALPHABET[character] for character in token)
    except KeyError:
        return token.encode()  # not in the alphabet: a token stored as its own text


def _refuse_other_models(file: Path, document: Mapping[str, Any]) -> None:
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else model
        raise TextError(
            f"{file} holds a {shown(kind)} model; araio reads byte-level BPE, as DeepSeek publishes it"
        )
    if not _is_byte_level(document.get("pre_tokenizer")):
        raise TextError(f"pre_tokenizer of {file} is not byte-level; araio reads byte-level BPE only")
    decoder = document.get("decoder")
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        raise TextError(f"decoder of {file} is not ByteLevel; araio reads byte-level BPE only")
    for option in REFUSED_MODEL_OPTIONS:
        if model.get(option):
            raise TextError(
                f"model.{option} of {file} is {shown(model[option])}; araio supports it only switched off"
            )


def _is_byte_level(component: object) -> bool:
    if not isinstance(component, dict):
        return False
    if component.get("type") == "Sequence":
        parts = component.get("pretokenizers")
        return isinstance(parts, list) and any(map(_is_byte_level, parts))
    return component.get("type") == "ByteLevel"


def _refuse_contradicted_tokens(
    file: Path, document: Mapping[str, Any], backend: tokenizers.Tokenizer
) -> None:
    """The library renumbers added tokens whose ids do not fit; that must not pass in silence."""
    for token in document.get("added_tokens") or []:
        text, token_id = token["content"], token["id"]
        if backend.token_to_id(text) != token_id:
            raise TextError(
                f"{file} gives the added token {shown(text)} the id {shown(token_id)}, but the vocabulary "
                f"leaves it {backend.token_to_id(text)}; the file was edited or is damaged, fetch it again"
            )
        for flag in REFUSED_TOKEN_FLAGS:
            if token.get(flag):
                raise TextError(
                    f"added token {shown(text)} of {file} has {flag} set, which araio does not support"
                )
