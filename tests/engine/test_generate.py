"""The loop against a scripted model, whose next token is known beforehand."""

from types import SimpleNamespace

import numpy as np
import pytest

from araio.engine import generate as generate_module
from araio.engine.generate import generate
from araio.engine.request import SamplingParams
from araio.errors import GenerationError, RequestError

VOCAB = 12
END = 11


class ScriptedModel:
    """Answers position p with script[p - len(prompt)]; remembers how it was fed."""

    def __init__(self, script, prompt_length, context=64):
        self.config = SimpleNamespace(vocab_size=VOCAB, max_position_embeddings=context, eos_token_id=(END,))
        self.script, self.prompt_length = script, prompt_length
        self.fed = []

    def new_cache(self):
        return []

    def forward(self, ids, cache, *, absorbed=False, mask=None):
        self.fed.append(list(map(int, ids)))
        start = len(cache)
        cache.extend(ids)
        return np.arange(start, len(cache), dtype=np.float32)[:, None]

    def logits(self, hidden):
        rows = np.zeros((len(hidden), VOCAB), np.float32)
        for row, position in zip(rows, hidden[:, 0], strict=True):
            row[self.script[int(position) + 1 - self.prompt_length]] = 1
        return rows


class LetterTokenizer:
    """Token i is the letter "abc..."[i]; token 10 alone is the first half of a two-token character."""

    def stream(self):
        return self

    def __init__(self):
        self.waiting = ""

    def push(self, token):
        if token == 10:
            self.waiting = "\ufffd"
            return ""
        return "abcdefghij"[token]

    def flush(self):
        waiting, self.waiting = self.waiting, ""
        return waiting


def run(script, prompt=(1, 2, 3), context=64, **params):
    model = ScriptedModel(script, len(prompt), context)
    tokens = list(generate(model, list(prompt), SamplingParams(**params), tokenizer=LetterTokenizer()))
    return model, tokens


def text(tokens):
    return "".join(t.text for t in tokens)


def test_it_stops_at_the_stop_token_which_shows_no_text():
    model, tokens = run([4, 5, END])
    assert [t.id for t in tokens] == [4, 5, END]
    assert text(tokens) == "ef"
    assert [t.finish_reason for t in tokens] == [None, None, "stop"]
    assert model.fed == [[1, 2, 3], [4], [5]]


def test_it_stops_at_max_tokens_without_a_forward_pass_to_spare():
    model, tokens = run([4, 5, 6, 7], max_tokens=2)
    assert [t.id for t in tokens] == [4, 5]
    assert tokens[-1].finish_reason == "length"
    assert model.fed == [[1, 2, 3], [4]]


def test_it_stops_when_the_context_is_full():
    _, tokens = run([4] * 9, context=8)
    assert len(tokens) == 5
    assert tokens[-1].finish_reason == "length"


@pytest.mark.parametrize("length", [8, 9])
def test_a_prompt_that_fills_the_context_is_refused_at_once_with_both_numbers(length):
    with pytest.raises(RequestError, match=f"{length} tokens.*holds 8"):
        generate(ScriptedModel([4], length, 8), [1] * length, SamplingParams())


def test_a_stop_string_is_cut_off_across_tokens():
    _, tokens = run([0, 1, 2, 3, 4, END], stop=["cd"])
    assert text(tokens) == "ab"
    assert [t.id for t in tokens] == [0, 1, 2, 3]
    assert [t.stop_reason for t in tokens] == [None, None, None, "cd"]
    assert tokens[-1].finish_reason == "stop"


def test_a_stop_string_of_half_a_character_ends_the_text_as_any_other():
    _, tokens = run([0, 10], stop=["\ufffd"], max_tokens=2)
    assert (text(tokens), tokens[-1].finish_reason, tokens[-1].stop_reason) == ("a", "stop", "\ufffd")


def test_what_only_began_like_a_stop_string_is_given_out_in_the_end():
    _, tokens = run([0, 1, 2, END], stop=["cd"])
    assert text(tokens) == "abc"
    _, tokens = run([0, 1, 2, 3], stop=["cd"], max_tokens=3)
    assert text(tokens) == "abc"
    assert (tokens[-1].finish_reason, tokens[-1].stop_reason) == ("length", None)


def test_half_a_character_at_the_end_is_not_lost():
    assert text(run([0, 10, END])[1]) == "a\ufffd"
    assert text(run([0, 10, 1], max_tokens=2)[1]) == "a\ufffd"


def test_the_prompt_is_fed_in_chunks(monkeypatch):
    monkeypatch.setattr(generate_module, "PREFILL_CHUNK", 2)
    model, tokens = run([4, END], prompt=[1, 2, 3, 4, 5])
    assert model.fed == [[1, 2], [3, 4], [5], [4]]
    assert [t.id for t in tokens] == [4, END]


def test_stop_ids_replace_the_configs():
    model = ScriptedModel([END, 5, 6], 1)
    tokens = list(generate(model, [1], SamplingParams(), stop_ids=[5]))
    assert [t.id for t in tokens] == [END, 5]
    assert [t.text for t in tokens] == ["", ""]


@pytest.mark.parametrize("ids", [[], [1, VOCAB], [-1], [True], [1.0], ["1"]])
def test_bad_prompts_are_refused_at_once(ids):
    with pytest.raises(RequestError, match="prompt"):
        generate(ScriptedModel([4], 1), ids, SamplingParams())


def test_stop_strings_without_a_tokenizer_are_refused():
    with pytest.raises(RequestError, match="tokenizer"):
        generate(ScriptedModel([4], 1), [1], SamplingParams(stop="a"))


def test_logits_that_are_not_finite_end_the_stream_with_an_error():
    model = ScriptedModel([4, 5], 1)
    model.logits = lambda hidden: np.full((len(hidden), VOCAB), np.nan, np.float32)
    with pytest.raises(GenerationError):
        list(generate(model, [1], SamplingParams()))
