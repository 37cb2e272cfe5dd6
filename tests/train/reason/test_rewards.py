"""Rewards: each part by itself, and what a verifier may do wrong."""

from random import Random

import pytest

from araio.errors import RecipeError
from araio.train.reason.problems import Problem, Problems
from araio.train.reason.rewards import Rewards, VerifierError, overlong_penalty, plain_share
from araio.train.tasks import TASKS


@pytest.fixture
def problem(encoder):
    example = TASKS["chain"].generate(Random(0), "train")
    document = encoder.conversation(example)
    return Problem(example, "chain: 2 terms", document.ids[: document.first_learned])


def answer(encoder, text, *, ends=True, tags=1):
    encode = encoder.tokenizer.encode
    ids = [*encode("some words\n"), *[encoder.end_think] * tags, *encode(f"\n\n{text}")]
    return [*ids, encoder.eos] if ends else ids


@pytest.fixture
def rewards(encoder):
    return Rewards(encoder, 100, format_reward=0.1)


def test_right_and_well_formed(rewards, encoder, problem):
    verdict = rewards.judge(problem, answer(encoder, problem.example.answer))
    assert (verdict.reward, verdict.is_right, verdict.is_well_formed) == (1.1, True, True)
    assert (verdict.reasoning, verdict.content) == ("some words", problem.example.answer)


@pytest.mark.parametrize(
    ("how", "reward"),
    [
        ({"text": "no number"}, 0.1),
        ({"text": ""}, 0.0),
        ({"ends": False}, 0.0),
        ({"tags": 0}, 0.0),
        ({"tags": 2}, 0.0),
    ],
)
def test_what_is_ill_formed_is_not_right(rewards, encoder, problem, how, reward):
    how = {"text": problem.example.answer} | how
    verdict = rewards.judge(problem, answer(encoder, **how))
    assert verdict.reward == pytest.approx(reward)
    assert not verdict.is_right


def test_an_empty_answer_is_worth_nothing(rewards, encoder, problem):
    assert rewards.judge(problem, [encoder.eos]).reward == 0
    assert rewards.judge(problem, []).reward == 0


def test_control_tokens_within_are_ill_formed(rewards, encoder, problem):
    ids = answer(encoder, problem.example.answer)
    for token in (encoder.think, encoder.user, encoder.bos):
        assert not rewards.judge(problem, [token, *ids]).is_well_formed


def test_a_verifier_that_raises_is_named(rewards, encoder, problem, monkeypatch):
    def fail(example, text):
        raise ZeroDivisionError("a tenth of nothing")

    monkeypatch.setattr(TASKS["chain"], "verify", fail)
    with pytest.raises(VerifierError, match="verifier of chain raised ZeroDivisionError: a tenth of nothing"):
        rewards.judge(problem, answer(encoder, "5"))


def test_length_is_taken_off_within_the_margin_only():
    assert [overlong_penalty(n, 100, 20) for n in (1, 80, 90, 100)] == [0, 0, -0.5, -1]
    assert overlong_penalty(100, 100, 0) == 0


def test_plain_words_are_counted(encoder, problem):
    assert plain_share("two words") == 1
    assert plain_share("zwei Wörter") == 0.5
    assert plain_share("") == 1
    rewards = Rewards(encoder, 100, language_reward=0.5)
    encode = encoder.tokenizer.encode
    ids = [*encode("eins Ü"), encoder.end_think, *encode("nothing"), encoder.eos]
    assert rewards.judge(problem, ids).reward == pytest.approx(0.25)


def test_prompts_are_those_of_the_chat_format(encoder):
    problem = Problems(encoder, {"chain": 1.0}, {}, longest=300).draw(Random(4), 1)[0]
    tail = [encoder.assistant, encoder.think, *encoder.tokenizer.encode("\n")]
    assert problem.prompt[:2] == [encoder.bos, encoder.user]
    assert problem.prompt[-len(tail) :] == tail
    assert problem.level.startswith("chain: ")


def test_problems_beyond_are_of_the_trained_half(encoder):
    levels = {one.level for one in Problems(encoder, {}, {"chain": 1.0}, 300).draw(Random(4), 20)}
    assert levels
    assert all(level.startswith("chain beyond: ") for level in levels)


def test_questions_that_leave_no_room_are_refused(encoder):
    with pytest.raises(RecipeError, match="chain asks nothing in at most 5 tokens; raise sequence_length"):
        Problems(encoder, {"chain": 1.0}, {}, longest=5).draw(Random(4), 1)
