"""The language families and the prose reader."""

from __future__ import annotations

import re
from random import Random

import pytest

from araio.errors import RecipeError, RequestError
from araio.train.tasks import TASKS
from araio.train.tasks.base import Example
from araio.train.tasks.prose import read_documents
from araio.train.tasks.recall import MAX_LENGTH, TOKENS_PER_LINE, Recall
from araio.train.tasks.words import ADJECTIVES, ANIMALS, KINDS, LONG_WORDS, NAMES, ORDINALS, WORDS

SPLITS = ("train", "test", "beyond")


def test_words_are_distinct_and_plain():
    for words in (ADJECTIVES, ANIMALS, KINDS, LONG_WORDS, NAMES, WORDS):
        assert len(set(words)) == len(words)
        assert all(word.isascii() and word.isalpha() for word in words)
    assert not set(WORDS) & set(LONG_WORDS)
    assert all(len(word) > 8 for word in LONG_WORDS)


def test_letters_answers_what_is_asked():
    for example in (
        TASKS["letters"].generate(Random(seed), split) for split in SPLITS for seed in range(1_000)
    ):
        word = re.search(r'"(\w+)"', example.prompt)
        assert word is not None
        assert answer_from(word[1], example.prompt) == example.answer


def answer_from(word: str, prompt: str) -> str:
    if match := re.search(r"letters? (\w) ", prompt):
        return str(word.count(match[1]))
    if "backwards" in prompt or "Reverse" in prompt:
        return " ".join(word[::-1])
    if "alphabetical" in prompt or "from a to z" in prompt:
        return " ".join(sorted(word))
    ordinal = next(name for name in (*ORDINALS, "last") if f" {name} " in prompt)
    return word[-1] if ordinal == "last" else word[ORDINALS.index(ordinal)]


def test_letters_may_be_joined_where_letters_are_the_answer():
    reverse = Example("letters", "", "", "t a c", 3, "reverse", {"answer": "t a c", "several": True})
    assert TASKS["letters"].verify(reverse, "t a c")
    assert TASKS["letters"].verify(reverse, "tac")
    assert not TASKS["letters"].verify(reverse, "ta c")
    assert not TASKS["letters"].verify(reverse, "t a c t a c")
    count = Example("letters", "", "", "11", 3, "count", {"answer": "11", "several": False})
    assert not TASKS["letters"].verify(count, "1 1")


def test_recall_states_its_key_once():
    for example in (TASKS["recall"].generate(Random(seed), split) for split in SPLITS for seed in range(200)):
        keys = re.findall(r"The code of (\w+(?: \w+)?) is \d{4}\.", example.prompt)
        assert len(set(keys)) == len(keys) == example.difficulty
        lines, question = example.prompt.split("\n")[:-1], example.prompt.split("\n")[-1]
        recalled = example.reasoning.split("\n")
        assert all(f"{line}." in lines for line in recalled)
        assert all(question.count(" ".join(line.split()[3:-2])) == 1 for line in recalled)


def test_recall_asks_for_one_code_in_tests_and_for_up_to_four_in_training():
    asked = {
        split: {len(Recall().generate(Random(seed), split).facts["codes"]) for seed in range(200)}
        for split in SPLITS
    }
    assert asked == {"train": {1, 2, 3, 4}, "test": {1}, "beyond": {1}}


def test_recall_of_several_codes_wants_all_in_order():
    example = Example("recall", "", "", "0123, 4567", 3, "", {"codes": ["0123", "4567"]})
    assert Recall().verify(example, "0123,4567")
    for answer in ("4567, 0123", "0123", "0123, 4567, 8901", "0123 4567"):
        assert not Recall().verify(example, answer)


@pytest.mark.parametrize("length", [1, 100, 1_000, 32_768, MAX_LENGTH])
def test_recall_at_a_given_length(length):
    example = Recall().generate(Random(3), "beyond", length=length)
    assert example.difficulty == max(1, length // TOKENS_PER_LINE)
    assert example.prompt.count("\n") == example.difficulty
    assert Recall().verify(example, example.answer)


def test_recall_asks_anywhere_in_the_document():
    places = set()
    for seed in range(200):
        example = Recall().generate(Random(seed), "test", length=TOKENS_PER_LINE * 4)
        places.add(example.prompt.split("\n").index(f"{example.reasoning}."))
    assert places == {0, 1, 2, 3}


@pytest.mark.parametrize("length", [0, -5, MAX_LENGTH + 1])
def test_recall_refuses_other_lengths(length):
    with pytest.raises(RequestError, match=f"length {length} is out of range; expected 1 to {MAX_LENGTH}"):
        Recall().generate(Random(0), "beyond", length=length)


@pytest.fixture
def library(tmp_path):
    for book in ("one", "two"):
        lines = [f"{book} paragraph {number} " + "word " * (number % 40) for number in range(400)]
        (tmp_path / f"{book}.txt").write_text("\n\n".join(lines), encoding="utf-8")
    (tmp_path / "notes.md").write_text("not prose", encoding="utf-8")
    return tmp_path


def test_prose_splits_every_paragraph_into_train_or_test(library):
    train, test = (read_documents(library, 500, split) for split in ("train", "test"))
    assert train
    assert test
    assert not set(train) & set(test)
    assert len(test) < len(train) / 3
    read = "\n".join(train + test)
    assert all(f"{book} paragraph {number}" in read for book in ("one", "two") for number in range(400))
    assert "not prose" not in read


def test_prose_documents_have_the_asked_size_and_one_source(library):
    for document in read_documents(library, 500, "train"):
        assert len(document) < 2 * 500 + 1
        assert not ("one paragraph" in document and "two paragraph" in document)


def test_prose_cuts_a_paragraph_that_is_too_long(tmp_path):
    (tmp_path / "long.txt").write_text("word " * 5_000 + "x" * 300, encoding="utf-8")
    documents = read_documents(tmp_path, 100, "train")
    assert all(len(document) <= 201 for document in documents)


def test_prose_of_nothing_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"holds no \.txt file"):
        read_documents(tmp_path, 100, "train")
    with pytest.raises(RecipeError, match="expected at least 1"):
        read_documents(tmp_path, 0, "train")
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="too little text"):
        read_documents(tmp_path, 100, "train")
    (tmp_path / "empty.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="as UTF-8 text"):
        read_documents(tmp_path, 100, "train")
