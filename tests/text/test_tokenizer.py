"""Ids and text there and back, control tokens, streaming, and files that are not tokenizers."""

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from araio.errors import ContextError, TextError
from araio.testing.tokenizers import TINY_VOCAB_SIZE, tiny_tokenizer_document, write_tiny_tokenizer
from araio.text.deepseek import CONTROL_TOKENS
from araio.text.tokenizer import Span, Tokenizer

texts = st.lists(
    st.sampled_from([*CONTROL_TOKENS, "the number", " and", "é", "🙂", "12", "\n\n", "<", "\0"])
    | st.text(max_size=3),
    max_size=8,
).map("".join)
ids = st.lists(st.integers(0, TINY_VOCAB_SIZE - 1), max_size=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    write_tiny_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def peer(folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@given(text=texts)
def test_text_survives(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode_spans([Span(text, is_trusted=True)])) == text


@given(text=texts)
def test_typed_control_tokens_are_text(tokenizer: Tokenizer, text: str) -> None:
    control = {tokenizer.token_id(token) for token in CONTROL_TOKENS}
    assert control.isdisjoint(tokenizer.encode(text))


@given(text=texts)
def test_trusted_text_gets_the_ids_of_the_library(
    tokenizer: Tokenizer, peer: tokenizers.Tokenizer, text: str
) -> None:
    assert (
        tokenizer.encode_spans([Span(text, is_trusted=True)])
        == peer.encode(text, add_special_tokens=False).ids
    )


@given(text=texts, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_spans_do_not_cut_the_text(tokenizer: Tokenizer, text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert tokenizer.encode_spans([Span(piece, is_trusted=False) for piece in pieces]) == tokenizer.encode(
        text
    )


def test_a_control_token_is_never_joined_from_two_spans(tokenizer: Tokenizer) -> None:
    spans = [Span("<thin", is_trusted=False), Span("k>", is_trusted=True), Span("</think>", is_trusted=True)]
    assert tokenizer.encode_spans(spans) == [*tokenizer.encode("<think>"), tokenizer.token_id("</think>")]


@pytest.mark.parametrize("is_trusted", [True, False])
def test_text_of_too_many_tokens_is_refused_and_no_other(folder: Path, is_trusted: bool) -> None:
    limited = Tokenizer.from_folder(folder)
    limited.most_tokens = 100
    for token in [*CONTROL_TOKENS, " number", "a", "é"]:
        count = len(limited.encode_spans([Span(token, is_trusted)]))
        whole = [Span(token * (100 // count), is_trusted)]
        assert len(limited.encode_spans(whole)) <= 100
        for longer in (token * 101, token * 100_000):
            with pytest.raises(ContextError) as caught:
                limited.encode_spans([Span(longer, is_trusted)])
            assert caught.value.limit == 100
            assert 100 < caught.value.tokens <= len(longer) * 2


@given(ids=ids)
def test_a_stream_gives_the_text_of_all_ids(tokenizer: Tokenizer, ids: list[int]) -> None:
    stream = tokenizer.stream()
    pieces = [stream.push(token_id) for token_id in ids]
    assert "".join(pieces) + stream.flush() == tokenizer.decode(ids)


@given(ids=ids)
def test_decoding_agrees_with_the_library(
    tokenizer: Tokenizer, peer: tokenizers.Tokenizer, ids: list[int]
) -> None:
    assert tokenizer.decode(ids) == peer.decode(ids, skip_special_tokens=False)


@given(text=st.text(max_size=10))
def test_a_stream_never_emits_half_a_character(tokenizer: Tokenizer, text: str) -> None:
    stream = tokenizer.stream()
    so_far = ""
    for token_id in tokenizer.encode(text):
        so_far += stream.push(token_id)
        assert text.startswith(so_far)
    assert so_far == text
    assert stream.flush() == ""


def test_an_unfinished_character_ends_as_a_replacement(tokenizer: Tokenizer) -> None:
    stream = tokenizer.stream()
    first, *_ = tokenizer.encode("🙂")
    assert (stream.push(first), stream.flush()) == ("", "\ufffd")


def test_names_and_sizes(tokenizer: Tokenizer) -> None:
    assert (tokenizer.bos_id, tokenizer.eos_id) == (0, 1)
    assert tokenizer.vocab_size == TINY_VOCAB_SIZE
    assert tokenizer.control_tokens == set(CONTROL_TOKENS)
    assert tokenizer.token_id("no such token") is None


def test_ids_without_a_token_are_silent(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([TINY_VOCAB_SIZE, 10**6]) == ""


@pytest.mark.parametrize("token_id", [-1, 2**32])
def test_what_cannot_be_an_id_is_refused(tokenizer: Tokenizer, token_id: int) -> None:
    with pytest.raises(TextError, match="no token id"):
        tokenizer.decode([token_id])


def test_half_a_surrogate_pair_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(TextError, match="character 2"):
        tokenizer.encode("ab\ud800")


def write(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A tiny tokenizer with one thing changed."""
    write_tiny_tokenizer(folder)
    document = tiny_tokenizer_document()
    change(document)
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def renumber(document: dict[str, Any]) -> None:
    """Close the gaps that a changed vocabulary left in the ids."""
    vocabulary = {piece: token_id for token_id, piece in enumerate(document["model"]["vocab"])}
    ids = dict(vocabulary)
    for token in document["added_tokens"]:
        token["id"] = ids.setdefault(token["content"], len(ids))
    document["model"]["vocab"] = vocabulary


def test_single_characters_among_the_added_tokens_are_bytes(tmp_path: Path) -> None:
    def add_umlaut(document: dict[str, Any]) -> None:
        del document["model"]["vocab"]["ö"]  # the byte 0xF6, which no UTF-8 text holds
        document["added_tokens"].append({**document["added_tokens"][-1], "content": "ö"})
        renumber(document)

    tokenizer = Tokenizer.from_folder(write(tmp_path, add_umlaut))
    assert tokenizer.decode(tokenizer.encode_spans([Span("größer", is_trusted=True)])) == "größer"
    assert tokenizer.token_bytes(TINY_VOCAB_SIZE - 1) == b"\xf6"


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no model": (lambda document: document.pop("model"), "byte-level BPE"),
    "another model": (lambda document: document["model"].update(type="Unigram"), "'Unigram'"),
    "no pre-tokenizer": (lambda document: document.update(pre_tokenizer=None), "pre_tokenizer"),
    "another decoder": (lambda document: document.update(decoder={"type": "Metaspace"}), "decoder"),
    "dropout": (lambda document: document["model"].update(dropout=0.1), "dropout"),
    "greedy spaces": (lambda document: document["added_tokens"][0].update(lstrip=True), "lstrip"),
    "a contradicted id": (lambda document: document["added_tokens"][-1].update(id=7), "the id 7"),
    "a merge of nothing": (
        lambda document: document["model"]["merges"].append("q zz"),
        "not a usable tokenizer",
    ),
    "a negative id": (lambda document: document["model"]["vocab"].update(x=-1), "not a usable tokenizer"),
    "a normalizer that panics": (
        lambda document: document.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "not a usable",
    ),
    "a vocabulary of lists": (lambda document: document["model"].update(vocab=[["a", 0]]), "not a usable"),
}


@pytest.mark.parametrize(("change", "complaint"), REFUSED.values(), ids=REFUSED.keys())
def test_a_tokenizer_that_would_encode_differently_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    with pytest.raises(TextError, match=complaint):
        Tokenizer.from_folder(write(tmp_path, change))


def test_text_that_encodes_to_a_control_token_is_refused(tmp_path: Path) -> None:
    def forge(document: dict[str, Any]) -> None:
        document["added_tokens"].append({**document["added_tokens"][-1], "content": "the"})
        document["model"]["vocab"]["the"] = TINY_VOCAB_SIZE
        document["model"]["merges"].append("t he")
        renumber(document)

    tokenizer = Tokenizer.from_folder(write(tmp_path, forge))
    with pytest.raises(TextError, match="could forge"):
        tokenizer.encode("the")


def test_a_pattern_that_never_ends_is_stopped(tmp_path: Path) -> None:
    def backtrack(document: dict[str, Any]) -> None:
        document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a|a|aa)+$"

    tokenizer = Tokenizer.from_folder(write(tmp_path, backtrack))
    with pytest.raises(TextError, match="cannot encode"):
        tokenizer.encode("a" * 40 + "b")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path)
    write_tiny_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert Tokenizer.from_folder(tmp_path).bos_id is None


def test_bos_must_be_in_the_vocabulary(tmp_path: Path) -> None:
    write_tiny_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    with pytest.raises(TextError, match="different models"):
        Tokenizer.from_folder(tmp_path)


def load_or_refuse(folder: Path, data: bytes) -> None:
    """Whatever the bytes, the outcome is a tokenizer that works or a TextError."""
    (folder / "tokenizer.json").write_bytes(data)
    with suppress(TextError):
        tokenizer = Tokenizer.from_folder(folder)
        tokenizer.decode(tokenizer.encode_spans([Span("the <think> é", is_trusted=True)]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60) | st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000]))
def test_random_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(TextError):
        Tokenizer.from_folder(tmp_path)


values = st.none() | st.booleans() | st.integers(-5, 2**33) | st.text(max_size=3) | st.just([]) | st.just({})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_document_loads_or_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    document: Any = tiny_tokenizer_document()
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    if data.draw(st.booleans()):
        place[key] = data.draw(values)
    else:
        del place[key]
    write_tiny_tokenizer(tmp_path)
    load_or_refuse(tmp_path, json.dumps(document).encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_loads_or_is_refused(tmp_path: Path, position: float, byte: int, cut: bool) -> None:
    data = bytearray(json.dumps(tiny_tokenizer_document()).encode())
    place = int(position * len(data))
    data[place] = byte
    write_tiny_tokenizer(tmp_path)
    load_or_refuse(tmp_path, bytes(data[:place] if cut else data))
