"""The tiny tokenizer: the same bytes every time, and readable by others."""

from pathlib import Path

import pytest

from araio.testing.tokenizers import write_tiny_tokenizer


def test_the_files_are_deterministic(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        write_tiny_tokenizer(folder)
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}


def test_transformers_reads_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_tiny_tokenizer(tmp_path)
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert peer.decode(peer.encode("the number é 12", add_special_tokens=False)) == "the number é 12"
    assert (peer.bos_token_id, peer.eos_token_id, peer.pad_token_id) == (0, 1, 2)
