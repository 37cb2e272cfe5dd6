"""Accuracy against budgets and votes: what is asked, and that votes are nested."""

import pytest

import araio
from araio.errors import RequestError
from araio.eval.accuracy import evaluate
from araio.eval.thinking import steps_of_sweep, sweep


@pytest.fixture(scope="module")
def model() -> araio.Model:
    return araio.load("pocket")


def test_without_a_limit_it_is_what_evaluate_counts(model):
    told = []
    found = sweep(model, ["chain", "order"], 3, budgets=[8], on_answer=lambda: told.append(1))
    assert len(told) == steps_of_sweep(2, 3, [8], []) == 12
    report = evaluate(model, ["chain", "order"], 3)
    points = {(point.task, point.budget): point for point in found.budgets}
    assert list(points) == [(task, budget) for budget in (8, None) for task in ("chain", "order", "all")]
    for task in ("chain", "order"):
        whole = points[task, None]
        assert whole.correct == report.tasks[task].score.correct
        assert whole.tokens == report.tasks[task].mean_reasoning_tokens
        assert points[task, 8].tokens <= 8 + 4  # the closing tag comes on top
        assert points[task, 8].correct <= whole.correct
    assert points["all", None].correct == sum(points[task, None].correct for task in ("chain", "order"))


def test_more_votes_hold_fewer(model):
    found = sweep(model, ["chain"], 2, seed=1, votes=[3, 1])
    few = sweep(model, ["chain"], 2, seed=1, votes=[1])
    assert [point.votes for point in found.votes] == [1, 3]
    assert found.votes[0] == few.votes[0]
    assert found.votes[1].tokens > found.votes[0].tokens
    document = found.to_dict()
    assert document["temperature"] == 0.8
    assert document["budgets"] == []
    assert set(document["votes"][0]) == {
        *("task", "budget", "votes", "n", "correct", "tokens", "accuracy", "ci95"),
    }


def test_numbers_out_of_range_are_refused(model):
    with pytest.raises(RequestError, match=r"budgets are \[-1\]"):
        sweep(model, ["chain"], 1, budgets=[-1])
    with pytest.raises(RequestError, match=r"votes are \[0\]"):
        sweep(model, ["chain"], 1, votes=[0])
