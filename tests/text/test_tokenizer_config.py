"""What `tokenizer_config.json` may look like."""

import json
from pathlib import Path

import pytest

from araio.errors import TextError
from araio.text.tokenizer_config import TokenizerConfig, read_text


def read(folder: Path, document: object) -> TokenizerConfig:
    (folder / "tokenizer_config.json").write_text(json.dumps(document), encoding="utf-8")
    return TokenizerConfig.from_folder(folder)


def test_an_absent_file_leaves_everything_absent(tmp_path: Path) -> None:
    assert TokenizerConfig.from_folder(tmp_path) == TokenizerConfig(None, None, None)


def test_tokens_are_texts_or_objects(tmp_path: Path) -> None:
    token = {"__type": "AddedToken", "content": "<s>", "lstrip": False}
    config = read(tmp_path, {"bos_token": token, "eos_token": "</s>", "anything": 1})
    assert config == TokenizerConfig("<s>", "</s>", None)


def test_a_template_is_a_string_or_named_default(tmp_path: Path) -> None:
    assert read(tmp_path, {"chat_template": "x"}).chat_template == "x"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert read(tmp_path, {"chat_template": named}).chat_template == "d"


def test_a_template_file_comes_first(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("from the file é", encoding="utf-8")
    assert read(tmp_path, {"chat_template": "x"}).chat_template == "from the file é"


@pytest.mark.parametrize(
    "document",
    [[], 1, {"bos_token": 3}, {"eos_token": {"content": 3}}, {"chat_template": 3}, {"chat_template": [1]}],
)
def test_other_shapes_are_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(TextError, match=r"tokenizer_config\.json"):
        read(tmp_path, document)


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"ab\xff")
    with pytest.raises(TextError, match="byte 2"):
        read_text(file, 10)
    with pytest.raises(TextError, match="larger than 2 bytes"):
        read_text(file, 2)
    with pytest.raises(TextError, match="cannot read"):
        read_text(tmp_path, 10)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}'])
def test_what_two_programs_would_read_differently_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(TextError, match=r"tokenizer_config\.json is not valid JSON"):
        TokenizerConfig.from_folder(tmp_path)
