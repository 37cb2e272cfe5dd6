"""Needles: texts of exact length, one prefill for all their questions, and answers that outlive a run."""

import json
from random import Random
from types import SimpleNamespace

import pytest

import araio
from araio.errors import RequestError
from araio.eval import needle
from araio.eval.haystack import HAYSTACKS, build_haystack
from araio.eval.needle import NeedleSettings, measure_needles
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.text.tokenizer import Tokenizer
from araio.train.tasks.base import is_held_out
from araio.weights.locate import locate

SETTINGS = NeedleSettings((512, 1024), depths=3, per_cell=1)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_folder(locate("pocket"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("needle") / "tiny"
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=2048)
    return araio.load(folder, speculate="off")


# ------------------------------------------------------------------ haystacks


@pytest.mark.parametrize("kind", HAYSTACKS)
@pytest.mark.parametrize("tokens", [500, 501, 502, 503, 4000])
def test_a_haystack_has_exactly_its_tokens_and_its_needles_at_their_depths(kind, tokens, tokenizer):
    depths = [0.0, 0.5, 1.0]
    haystack = build_haystack(
        kind, tokens, depths, 2, Random(tokens), lambda text: len(tokenizer.encode(text))
    )
    assert len(tokenizer.encode(haystack.text)) == haystack.tokens == tokens
    lines = haystack.text.splitlines()
    places = [lines.index(f"{one.entry}.") for one in haystack.needles]
    middle = (len(lines) - 1) / 2
    assert places[:2] == [0, 1]
    assert places[4:] == [len(lines) - 2, len(lines) - 1]
    assert abs(places[2] - middle) <= 1
    assert [one.depth for one in haystack.needles] == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert all(is_held_out("recall", str(one.entry)) for one in haystack.needles)
    alike = sum(line.startswith("The code of") for line in lines)
    assert alike == len(lines) if kind == "list" else alike < len(lines)
    # No key twice: a question has one answer.
    keys = [line.split(" is ")[0] for line in lines if line.startswith("The code of")]
    assert len(set(keys)) == len(keys)


def test_needles_without_room_and_lists_without_keys_are_refused(tokenizer):
    def build(tokens, per_depth):
        return build_haystack(
            "list", tokens, [0.0, 1.0], per_depth, Random(0), lambda text: len(tokenizer.encode(text))
        )

    with pytest.raises(RequestError, match="has no room for 20 needles"):
        build(100, 10)
    with pytest.raises(RequestError, match="needs more than the 9534 keys"):
        build(400_000, 1)


# ------------------------------------------------------------------ asking


def test_a_text_is_read_once_whatever_is_asked(tiny):
    worked = []
    report = measure_needles(tiny, SETTINGS, on_work=worked.append)
    assert [one.number for one in report.asked] == [0, 1, 2] * 2
    for length in SETTINGS.lengths:
        first, *others = [one for one in report.asked if one.length == length]
        assert first.cached_tokens < 16
        # All but the question, which begins within a page.
        assert all(length - 128 - 16 < one.cached_tokens < one.tokens for one in others)
        assert length - 128 < report.prompt_tokens(length) <= length
    document = report.to_dict()
    assert [entry["n"] for entry in document["lengths"]] == [3, 3]
    assert [cell["depth"] for cell in document["lengths"][0]["depths"]] == [0.0, 0.5, 1.0]
    reading = sum(needle.prefill_cost(0, one.tokens) for one in report.asked if one.number == 0)
    assert sum(worked) == pytest.approx(reading, rel=0.05)


def answering(monkeypatch, right):
    """A model's answers without a model: the code, where `right(needle)` says so."""
    asked = []

    def ask(model, haystack, one, on_work):
        asked.append(one)
        return SimpleNamespace(
            content=one.entry.code if right(one) else "0",
            finish_reason="stop",
            usage={"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}},
        )

    monkeypatch.setattr(needle, "ask", ask)
    return asked


def test_what_is_found_is_counted_by_length_and_depth(tiny, monkeypatch):
    answering(monkeypatch, lambda one: one.depth < 1)
    report = measure_needles(tiny, SETTINGS)
    score = report.score(512)
    assert (score.n, score.correct) == (3, 2)
    assert [report.score(1024, depth).correct for depth in (0.0, 0.5, 1.0)] == [1, 1, 0]


def test_a_run_goes_on_from_what_was_answered(tiny, monkeypatch, tmp_path):
    kept = tmp_path / "answers.jsonl"
    answering(monkeypatch, lambda one: True)
    whole = measure_needles(tiny, SETTINGS, answers=kept)
    lines = kept.read_text().splitlines(keepends=True)
    assert len(lines) == 7
    # Killed within the fifth answer.
    kept.write_text("".join(lines[:5]) + lines[5][:20])
    asked = answering(monkeypatch, lambda one: False)
    resumed = measure_needles(tiny, SETTINGS, answers=kept)
    assert len(asked) == 2
    assert [one.is_correct for one in resumed.asked] == [True] * 4 + [False] * 2
    assert [one.depth for one in resumed.asked] == [one.depth for one in whole.asked]
    assert len(kept.read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model": "another"}\n', "holds answers of another model"),
        ("no answers\n", "is no file of answers"),
        ("[]\n[]\n", "is no file of answers"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(tiny, tmp_path, content, message):
    kept = tmp_path / "answers.jsonl"
    kept.write_text(content)
    with pytest.raises(RequestError, match=message):
        measure_needles(tiny, SETTINGS, answers=kept)
    assert kept.read_text() == content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": (100,)}, "a needle length is 100; expected 256 to"),
        ({"lengths": (1 << 30,)}, "the model's context"),
        ({"depths": 1}, "depths is 1; expected 2 or more"),
        ({"per_cell": 0}, "n is 0"),
    ],
)
def test_settings_out_of_range_are_refused(tiny, changes, message):
    with pytest.raises(RequestError, match=message):
        measure_needles(tiny, NeedleSettings(**{"lengths": (256,), **changes}))


def test_a_file_says_what_it_answers(tiny, monkeypatch, tmp_path):
    answering(monkeypatch, lambda one: True)
    measure_needles(tiny, SETTINGS, answers=tmp_path / "a.jsonl")
    header = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert (header["depths"], header["per_cell"], header["haystack"]) == (3, 1, "list")
