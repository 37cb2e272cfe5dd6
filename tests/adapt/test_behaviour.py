"""How answers are compared: by hand for a few, and the interval of pairs against what it must hold."""

from types import SimpleNamespace

import numpy as np
import pytest

from araio.adapt.answers import Asked
from araio.adapt.behaviour import behaviour, is_looping, paired_interval
from araio.eval.prompts import Prompt


def asked(content, tokens, *, right="7", source="task:chain", thought=4, finish="stop", ids=None):
    """An answer of so many tokens, none of them like the one before."""
    answer = SimpleNamespace(
        content=content,
        finish_reason=finish,
        usage={"completion_tokens_details": {"reasoning_tokens": thought}},
    )
    prompt = Prompt(({"role": "user", "content": "?"},), None, source, right)
    generated = np.arange(tokens) if ids is None else np.array(ids)
    return Asked(prompt, answer, np.concatenate([[0, 0], generated]), 2)


WHOLE = [asked("7", 10), asked("7", 20), asked("8", 10, source="b.jsonl"), asked("?", 10, right=None)]


def test_accuracy_is_of_pairs_and_by_source():
    kept = [asked("7", 10), asked("5", 40), asked("7", 10, source="b.jsonl"), asked("!", 10, right=None)]
    found = behaviour(kept, WHOLE)
    assert (found.accuracy.n, found.accuracy.kept, found.accuracy.whole) == (3, 2, 2)
    assert found.accuracy.change == 0
    assert found.accuracy.low < 0 < found.accuracy.high
    assert {name: (a.kept, a.whole) for name, a in found.by_source.items()} == {
        "task:chain": (1, 2),
        "b.jsonl": (1, 0),
    }


def test_prompts_without_answers_have_no_accuracy():
    none = [asked("a", 3, right=None)]
    assert behaviour(none, none).accuracy is None
    assert behaviour(none, none).to_json()["accuracy"] is None


def test_an_answer_that_was_cut_off_is_not_right():
    found = behaviour([asked("7", 9, finish="length")], [asked("7", 9)])
    assert (found.accuracy.kept, found.accuracy.whole) == (0, 1)
    assert found.cut_off == (1.0, 0.0)


def test_lengths_are_ratios_of_each_prompt():
    kept = [
        asked("7", 10),
        asked("7", 60, thought=12),
        asked("8", 20, source="b.jsonl"),
        asked("?", 15, right=None),
    ]
    found = behaviour(kept, WHOLE)
    assert found.length_ratio == pytest.approx((2.0 + 1.5) / 2)
    assert found.thinking_ratio == pytest.approx(6 / 4)


def test_a_model_that_does_not_think_has_no_ratio_of_thinking():
    found = behaviour([asked("7", 5, thought=3)], [asked("7", 5, thought=0)])
    assert found.thinking_ratio is None


def test_same_text_empty_answers_and_loops_are_shares():
    looping = asked("?", 0, right=None, ids=[5, 6] * 20)
    kept = [asked("7", 10), asked("  ", 10), asked("8", 10, source="b.jsonl"), looping]
    found = behaviour(kept, WHOLE)
    assert found.same == 0.75
    assert found.empty == (0.25, 0.0)
    assert found.looping == (0.25, 0.0)
    assert found.to_json()["looping"] == {"kept": 0.25, "whole": 0.0}


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([3] * 32, True),
        ([3] * 31, False),
        ([9, 8, 7] + [1, 2, 3] * 11, True),
        ([1, 2, 3] * 11 + [9], False),
        (list(range(64)) * 4, True),
        (list(range(65)) * 4, False),
        (list(range(40)), False),
        ([], False),
    ],
)
def test_a_loop_is_at_the_end_and_long_enough(ids, expected):
    assert is_looping(np.array(ids, np.int64)) is expected


def test_the_interval_of_pairs_is_near_the_one_of_theory():
    changes = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 400, p=[0.1, 0.85, 0.05])
    low, high = paired_interval(changes)
    half = 1.96 * changes.std() / 20
    assert low == pytest.approx(changes.mean() - half, abs=0.006)
    assert high == pytest.approx(changes.mean() + half, abs=0.006)
    assert paired_interval(changes) == (low, high)
    assert paired_interval(changes, seed=1) != (low, high)


def test_few_pairs_that_never_differ_prove_little():
    low, high = paired_interval(np.zeros(12))
    assert -low == high == pytest.approx(0.2425, abs=1e-3)
    assert paired_interval(np.zeros(1000))[1] < 0.004
