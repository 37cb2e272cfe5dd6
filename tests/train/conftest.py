"""What several tests of training share: one thread, the tiny recipe, and a tokenizer trained on its text."""

import tomllib
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from araio.text.tokenizer import Tokenizer
from araio.train.recipe import Recipe
from araio.train.tasks.prose import read_documents
from araio.train.tokenizer import save_tokenizer, tokenizer_texts, train_tokenizer

TINY = Path(__file__).with_name("tiny.toml")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_document():
    """The tiny recipe as TOML has it, to be changed freely."""
    return tomllib.loads(TINY.read_text(encoding="utf-8"))


@pytest.fixture
def tiny_recipe(tiny_document):
    return Recipe.from_dict(tiny_document)


@pytest.fixture
def one_stage(tiny_recipe):
    """The tiny recipe with its first stage only; keywords replace what the stage says."""

    def build(**changes):
        return replace(tiny_recipe, stages=(replace(tiny_recipe.stages[0], **changes),))

    return build


@pytest.fixture(scope="session")
def prose_folder(tmp_path_factory):
    """A book of 400 paragraphs that say nothing."""
    folder = tmp_path_factory.mktemp("prose")
    rng = Random(5)
    words = ["the", "hill", "where", "nobody", "walked", "before", "rain", "came", "down", "is", "enough"]
    lines = [" ".join(rng.choices(words, k=40)).capitalize() + "." for _ in range(400)]
    (folder / "book.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory, prose_folder):
    folder = tmp_path_factory.mktemp("tokenizer")
    prose = read_documents(prose_folder, 500, "train")
    texts = tokenizer_texts(["chain", "letters", "order"], 5000, prose, seed=1)
    save_tokenizer(train_tokenizer(texts, 400), folder, context=512)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    return Tokenizer.from_folder(tokenizer_folder)
