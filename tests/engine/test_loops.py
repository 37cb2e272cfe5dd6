"""Loops against a look at the whole text; and what a request does that watches for them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import araio
from araio.engine.loops import LEAST_TOKENS, LONGEST_PERIOD, REPEATS, LoopDetector
from araio.testing.checkpoints import write_tiny_checkpoint


def ends_in_a_loop(tokens: list[int]) -> bool:
    for period in range(1, LONGEST_PERIOD + 1):
        size = max(REPEATS * period, LEAST_TOKENS)
        tail = tokens[-size:]
        if len(tail) == size and tail[period:] == tail[:-period]:
            return True
    return False


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3), max_size=30), st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_it_is_told_with_the_token_that_completes_it(before, cycle):
    detector, tokens = LoopDetector(), []
    for token in [*before, *cycle * 8][:300]:
        tokens.append(token)
        assert detector.push(token) == ends_in_a_loop(tokens)


def test_what_differs_somewhere_is_no_loop():
    detector = LoopDetector()
    rng = np.random.default_rng(0)
    rows = [token for row in range(60) for token in (1, 2, 3, int(rng.integers(9)), 4, row % 50 + 9)]
    assert not any(detector.push(token) for token in rows)


def test_it_begins_anew():
    detector = LoopDetector()
    assert [detector.push(1) for _ in range(LEAST_TOKENS)].count(True) == 1
    detector.forget()
    assert not any(detector.push(1) for _ in range(LEAST_TOKENS - 1))
    assert detector.push(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Random weights, which say what they are told to."""
    folder = tmp_path_factory.mktemp("loops") / "tiny"
    write_tiny_checkpoint(folder, "v3")
    return araio.load(folder)


def test_a_thinking_that_repeats_itself_is_closed_and_an_answer_is_ended(model):
    word = model.tokenizer.encode("a")[0]
    ask = {"temperature": 0, "max_tokens": 300, "logit_bias": {word: 100}}
    free = model.chat("hi", **ask)
    guarded = model.chat("hi", **ask, repetition_guard=True)
    assert free.finish_reason == "length"
    assert (guarded.finish_reason, guarded.stop_reason) == ("stop", "repetition")
    assert guarded.usage["completion_tokens"] < free.usage["completion_tokens"]
    # Closed as a budget of as many tokens would have closed it; then the answer does the same.
    assert guarded.reasoning == model.chat("hi", **ask, thinking_budget=LEAST_TOKENS).reasoning
    assert guarded.usage["completion_tokens_details"]["reasoning_tokens"] >= LEAST_TOKENS
    assert len(model.tokenizer.encode(guarded.content)) == LEAST_TOKENS


def test_what_does_not_repeat_itself_is_not_touched(model):
    ask = {"temperature": 1.0, "seed": 3, "max_tokens": 120}
    free, guarded = model.chat("hi", **ask), model.chat("hi", **ask, repetition_guard=True)
    assert (free.reasoning, free.content) == (guarded.reasoning, guarded.content)
    assert guarded.stop_reason is None
