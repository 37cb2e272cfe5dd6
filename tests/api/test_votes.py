"""Votes: what most answers come to, the same for the same seed, from a prompt that is computed once."""

from dataclasses import replace

import pytest

import araio
from araio.api.votes import count_votes
from araio.errors import RequestError

QUESTION = "What is 47 + 38 - 12?"


@pytest.fixture(scope="module")
def model() -> araio.Model:
    return araio.load("pocket")


@pytest.fixture(scope="module")
def votes(model):
    return model.vote(QUESTION, 5, seed=3, temperature=1.5)


def test_each_candidate_is_what_it_would_be_alone(model, votes):
    assert len(votes.candidates) == 5
    for place, candidate in enumerate(votes.candidates):
        alone = model.chat(QUESTION, seed=3 + place, temperature=1.5)
        assert (candidate.reasoning, candidate.content) == (alone.reasoning, alone.content)


def test_fewer_votes_are_the_first_of_more(model, votes):
    fewer = model.vote(QUESTION, 2, seed=3, temperature=1.5)
    assert [one.content for one in fewer.candidates] == [one.content for one in votes.candidates[:2]]


def test_the_prompt_is_computed_once():
    told = []
    model = araio.load("pocket", speculate="off")  # drafts have a cache of their own, and come and go
    question = "Mary has 12 apples, 13 pears, 14 plums and 15 figs. " * 4 + "How many apples has she?"
    votes = model.vote(question, 3, seed=0, on_answer=lambda: told.append(1))
    cached = [one.usage["prompt_tokens_details"]["cached_tokens"] for one in votes.candidates]
    assert len(told) == 3
    assert cached[0] == 0
    assert min(cached[1:]) > 64


def test_tokens_are_drawn_unless_somebody_says_otherwise(model):
    votes = model.vote(QUESTION, 3, seed=1)
    assert votes.seed == 1
    alone = model.chat(QUESTION, seed=2, temperature=0.8)
    assert votes.candidates[1].reasoning == alone.reasoning
    greedy = model.vote(QUESTION, 2, temperature=0)
    assert greedy.agreement == 2


def made(model, *contents):
    answer = model.chat("hi", max_tokens=1)
    return [
        replace(answer, content=text, finish_reason="length" if text == "cut off" else "stop")
        for text in contents
    ]


def test_the_majority_wins_and_ties_go_to_the_first(model):
    found = count_votes(made(model, "57", "59", "59.0", "", "cut off"))
    assert found.tally == (("59", 2), ("57", 1))
    assert (found.answer.content, found.agreement) == ("59", 2)
    tied = count_votes(made(model, "b", "a", "a", "B"))
    assert tied.tally == (("b", 2), ("a", 2))
    assert tied.answer.content == "b"
    silent = count_votes(made(model, "", "cut off"))
    assert (silent.tally, silent.agreement, silent.answer.content) == ((), 0, "")
    document = found.to_dict()
    assert document["content"] == "59"
    assert document["votes"]["tally"][0] == {"answer": "59", "votes": 2}
    assert len(document["votes"]["candidates"]) == 5


@pytest.mark.parametrize("n", [0, -1, 257, 1.5, True])
def test_numbers_that_are_none_are_refused(model, n):
    with pytest.raises(RequestError, match=r"votes is .*; expected an integer from 1 to 256"):
        model.vote(QUESTION, n)


def test_options_hold_for_every_vote(model):
    votes = model.vote(QUESTION, 2, seed=0, effort="none")
    assert all(one.usage["completion_tokens_details"]["reasoning_tokens"] <= 2 for one in votes.candidates)
    with pytest.raises(RequestError, match="effort is 'some'; expected one of none, minimal, low"):
        model.vote(QUESTION, 2, effort="some")
