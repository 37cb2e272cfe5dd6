"""`TokenizerConfig`: what araio needs of a model folder's `tokenizer_config.json`, and its chat template.

Holds the names of bos and eos and the template's text; everything else in the file concerns other libraries.
Refuses files that are not JSON objects and values of the wrong type. Read `tokenizer.py` or `chat.py` next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from araio.errors import TextError
from araio.json_reader import read_object, shown

__all__ = ["TokenizerConfig", "read_document"]

MAX_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True)
class TokenizerConfig:
    """Names of the sequence's first and last token, and the chat template; each may be absent."""

    bos_token: str | None = None
    eos_token: str | None = None
    chat_template: str | None = None

    @classmethod
    def from_folder(cls, path: Path) -> TokenizerConfig:
        """Read `tokenizer_config.json`, and `chat_template.jinja` which overrides its template.

        A missing file leaves its values absent. Raises TextError for a malformed one.
        """
        file = path / "tokenizer_config.json"
        document = read_document(file, MAX_CONFIG_BYTES) if file.exists() else {}
        template_file = path / "chat_template.jinja"
        return cls(
            bos_token=_token(file, document, "bos_token"),
            eos_token=_token(file, document, "eos_token"),
            chat_template=(
                read_text(template_file, MAX_CONFIG_BYTES)
                if template_file.exists()
                else _template(file, document.get("chat_template"))
            ),
        )


def read_text(file: Path, max_bytes: int) -> str:
    """Read a UTF-8 file of at most `max_bytes`; raises TextError with the reason it cannot."""
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise TextError(f"cannot read {file}: {error.strerror}; a model folder needs this file") from error
    if len(data) > max_bytes:
        raise TextError(f"{file} is larger than {max_bytes} bytes, which no published model needs")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise TextError(f"{file} is not UTF-8 text (byte {error.start}); fetch it again") from error


def read_document(file: Path, max_bytes: int) -> dict[str, Any]:
    """Read a file that holds a JSON object; raises TextError with the reason it cannot."""
    try:
        return read_object(file, max_bytes)
    except ValueError as error:
        raise TextError(f"{file} {error}; a model folder needs this file, fetch it again") from None


def _token(file: Path, document: Mapping[str, Any], name: str) -> str | None:
    """A token is stored as its text, or as an object (`AddedToken`) that carries it."""
    value = document.get(name)
    text = value.get("content") if isinstance(value, dict) else value
    if text is None or isinstance(text, str):
        return text
    raise TextError(f"{name} of {file} is {shown(value)}; expected the token's text")


def _template(file: Path, value: object) -> str | None:
    """A template is one string, or a list of named ones, of which chat uses `default`."""
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default")
        if value is None:
            raise TextError(
                f"chat_template of {file} is a list without the name 'default'; found {shown(list(named))}"
            )
    if value is None or isinstance(value, str):
        return value
    raise TextError(f"chat_template of {file} is a {type(value).__name__}; expected a string")
