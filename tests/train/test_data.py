"""Batches: a function of seed and step, whole documents, labels that say what they should."""

from collections import Counter
from random import Random

import pytest

from araio.errors import RecipeError
from araio.text.chat import ChatFormat
from araio.train.data import IGNORE, BatchStream, Document, DocumentSource, Encoder, read_prose
from araio.train.tasks import TASKS

ROWS, LENGTH = 4, 256


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return Encoder(tokenizer)


@pytest.fixture(scope="module")
def source(encoder):
    return DocumentSource(encoder, {"chain": 0.5, "letters": 0.3, "equation": 0.2}, LENGTH, None)


def make_stream(source, seed=0):
    return BatchStream(source, ROWS, LENGTH, seed)


def packed_documents(batch, pad):
    """Token ids of the documents of each row, padding left out."""
    for tokens, owners in zip(batch.tokens.tolist(), batch.documents.tolist(), strict=True):
        for owner in dict.fromkeys(owners):
            document = [token for token, number in zip(tokens, owners, strict=True) if number == owner]
            if document != [pad]:
                yield document


def as_lists(batch):
    return [batch.tokens.tolist(), batch.labels.tolist(), batch.documents.tolist(), batch.positions.tolist()]


# ------------------------------------------------------------------ encoding


@pytest.mark.parametrize("family", TASKS)
def test_a_question_has_the_ids_that_the_chat_format_gives_it(family, encoder, tokenizer, tokenizer_folder):
    chat = ChatFormat.from_folder(tokenizer_folder, tokenizer)
    example = TASKS[family].generate(Random(3), "train")
    prompt = chat.render([{"role": "user", "content": example.prompt}])
    document = encoder.conversation(example)
    assert document.ids[: document.first_learned] == prompt.ids
    assert prompt.starts_in_reasoning
    learned = tokenizer.decode(document.ids[document.first_learned :])
    assert learned == f"{example.reasoning}\n</think>\n\n{example.answer}<｜end▁of▁sentence｜>"


def test_a_control_token_spelled_out_in_prose_stays_text(encoder, tokenizer):
    text = "He wrote <think> and <｜end▁of▁sentence｜>."
    ids = encoder.prose(text).ids
    assert ids[0] == tokenizer.bos_id
    assert ids[-1] == tokenizer.eos_id
    assert tokenizer.eos_id not in ids[1:-1]
    assert tokenizer.decode(ids[1:-1]) == text


# ------------------------------------------------------------------ packing


def test_documents_are_laid_out_as_documented(source, encoder):
    asked = Document([0, 30, 31, 40, 41, 1], first_learned=3)
    prose = Document([0, 50, 1], first_learned=1)
    batch = BatchStream(source, rows=2, length=10, seed=0).collate([[asked, prose], [prose]])
    pad, skip = encoder.pad, IGNORE
    assert batch.tokens.tolist() == [[0, 30, 31, 40, 41, 1, 0, 50, 1, pad], [0, 50, 1, *[pad] * 7]]
    assert batch.labels.tolist() == [
        [skip, skip, 40, 41, 1, skip, 50, 1, skip, skip],
        [50, 1, *[skip] * 8],
    ]
    assert batch.documents.tolist() == [[0] * 6 + [6] * 3 + [9], [0, 0, 0, *range(3, 10)]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 0], [0, 1, 2, *[0] * 7]]
    assert batch.learned_tokens == 7


def test_a_batch_is_a_function_of_seed_and_step(source):
    stream = make_stream(source)
    seventh = as_lists(stream.batch(7))
    stream.batch(3)
    assert as_lists(stream.batch(7)) == seventh
    assert as_lists(make_stream(source).batch(7)) == seventh
    assert as_lists(stream.batch(8)) != seventh
    assert as_lists(make_stream(source, seed=1).batch(7)) != seventh


def test_a_source_made_anew_draws_the_same(source, encoder):
    mix = {"chain": 0.5, "letters": 0.3, "equation": 0.2}
    again = DocumentSource(encoder, mix, LENGTH, None)
    assert as_lists(make_stream(again).batch(2)) == as_lists(make_stream(source).batch(2))


@pytest.mark.parametrize("step", range(5))
def test_labels_are_the_next_tokens_of_the_same_document(source, step):
    batch = make_stream(source).batch(step)
    labelled = (batch.labels != IGNORE).nonzero().tolist()
    assert len(labelled) > ROWS * LENGTH / 4
    for row, column in labelled:
        assert batch.labels[row, column] == batch.tokens[row, column + 1]
        assert batch.documents[row, column] == batch.documents[row, column + 1]


@pytest.mark.parametrize("step", range(5))
def test_no_document_is_cut_and_no_question_is_learned(source, encoder, step):
    batch = make_stream(source).batch(step)
    count = 0
    for ids in packed_documents(batch, encoder.pad):
        assert (ids[0], ids[-1]) == (encoder.bos, encoder.eos)
        assert (ids.count(encoder.bos), ids.count(encoder.eos)) == (1, 1)
        count += 1
    # Of each conversation, exactly what follows `<think>` and its line break is a label.
    opened = (batch.tokens == encoder.think).nonzero().tolist()
    assert len(opened) == count
    for row, column in opened:
        start = column - int(batch.positions[row, column])
        assert (batch.labels[row, start : column + 1] == IGNORE).all()
        assert (batch.labels[row, column + 1 :][:3] != IGNORE).all()


def test_rows_are_nearly_full(source):
    batches = [make_stream(source).batch(step) for step in range(10)]
    used = sum(int((batch.tokens != source.encoder.pad).sum()) for batch in batches)
    assert used / (10 * ROWS * LENGTH) > 0.9


def test_families_get_their_shares_of_the_tokens(source, monkeypatch):
    family_of = {}
    draw_one = source.draw_one

    def remember(name, rng):
        document = draw_one(name, rng)
        family_of[tuple(document.ids)] = name
        return document

    monkeypatch.setattr(source, "draw_one", remember)
    tokens = Counter()
    for step in range(40):
        for ids in packed_documents(make_stream(source).batch(step), source.encoder.pad):
            tokens[family_of[tuple(ids)]] += len(ids)
    shares = {name: count / tokens.total() for name, count in tokens.items()}
    assert shares == pytest.approx({"chain": 0.5, "letters": 0.3, "equation": 0.2}, abs=0.05)


# ------------------------------------------------------------------ sources


def test_prose_is_learned_from_its_first_token(encoder, prose_folder):
    source = DocumentSource(encoder, {"prose": 1.0}, LENGTH, prose_folder)
    batch = make_stream(source).batch(0)
    documents = list(packed_documents(batch, encoder.pad))
    assert batch.learned_tokens == sum(len(ids) - 1 for ids in documents)
    assert all(len(ids) > LENGTH / 8 for ids in documents)


def test_a_family_without_share_is_never_drawn(encoder):
    source = DocumentSource(encoder, {"letters": 1.0, "chain": 0.0, "prose": 0.0}, LENGTH, None)
    assert source.names == ["letters"]


def test_prose_without_a_folder_is_refused(encoder):
    with pytest.raises(RecipeError, match="--prose-folder"):
        DocumentSource(encoder, {"prose": 1.0}, LENGTH, None)
    with pytest.raises(RecipeError, match="--prose-folder"):
        read_prose(None, 100)


def test_rows_too_short_for_a_family_are_refused_by_name(encoder):
    with pytest.raises(RecipeError, match=r"knights makes no document of at most 40 tokens.*sequence_length"):
        DocumentSource(encoder, {"knights": 1.0}, 40, None)
