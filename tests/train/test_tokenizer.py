"""The tokenizer that a recipe trains: exact, digit by digit, the same each time, and readable by others."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer

from araio.errors import TrainingError
from araio.text.deepseek import CONTROL_TOKENS
from araio.train.tokenizer import canonical_json, save_tokenizer, tokenizer_texts, train_tokenizer


@given(text=st.text())
@example(text="<think> 12,345 × é\n\n \t<｜User｜>\u0000🙂 e\u0301")
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_library_alone_reads_it_too(tokenizer, tokenizer_folder):
    library = LibraryTokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    text = "47 + 38 = 85.\n\nÄ word is enough; 🙂"
    ids = library.encode(text).ids
    assert ids == tokenizer.encode(text)
    assert library.decode(ids) == text


def test_digits_are_single_tokens(tokenizer, tokenizer_folder):
    assert len(tokenizer.encode("0123456789")) == 10
    assert tokenizer.encode("2024") == [tokenizer.token_id(digit) for digit in "2024"]
    vocabulary = json.loads((tokenizer_folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert [token for token in vocabulary if any(map(str.isdigit, token)) and len(token) > 1] == []


def test_control_tokens_come_first_and_the_vocabulary_has_its_size(tokenizer):
    assert [tokenizer.token_id(token) for token in CONTROL_TOKENS] == list(range(len(CONTROL_TOKENS)))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (0, 1, 400)


def test_a_vocabulary_never_lacks_a_byte():
    texts = tokenizer_texts(["chain"], 500, [], seed=0)
    assert train_tokenizer(texts, 10).get_vocab_size() == 256 + len(CONTROL_TOKENS)


def test_the_same_texts_give_the_same_tokenizer(tmp_path):
    def train(seed):
        return train_tokenizer(tokenizer_texts(["chain", "order"], 3000, [], seed), 350)

    assert train(1).to_str() == train(1).to_str()
    save_tokenizer(train(1), tmp_path, context=64)
    assert canonical_json(tmp_path) == train(1).to_str()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_full_disk_is_one_clear_error(tmp_path, name):
    (tmp_path / name).symlink_to("/dev/full")
    tokenizer = train_tokenizer(tokenizer_texts(["chain"], 500, [], seed=0), 10)
    with pytest.raises(
        TrainingError, match=rf"{name}: cannot be written \(No space left .*; free some space"
    ):
        save_tokenizer(tokenizer, tmp_path, context=64)


def test_prose_gets_eight_times_the_text_of_a_family():
    prose = ["x" * 100, "y" * 100]
    texts = list(tokenizer_texts(["chain", "letters"], 2000, prose, seed=0))
    of_prose = sum(len(text) for text in texts if text in prose)
    assert of_prose == 16_000
    assert sum(map(len, texts)) - of_prose == pytest.approx(4000, rel=0.2)
