"""Answer now, from Python: the text that a budget of as many tokens gives."""

import araio
from araio.engine.answer import ContentDelta, Finish, ReasoningDelta

QUESTION = "What is 47 + 38 - 12 + 5?"


def test_the_answer_is_that_of_a_budget():
    model = araio.load("pocket", speculate="off")
    stream = model.stream(QUESTION, temperature=0)
    events = [next(stream) for _ in range(6)]
    assert all(isinstance(event, ReasoningDelta) for event in events)
    assert stream.answer_now()
    *rest, finish = stream
    assert isinstance(finish, Finish)
    assert any(isinstance(event, ContentDelta) for event in rest)
    thought = finish.answer.usage["completion_tokens_details"]["reasoning_tokens"]
    whole = model.chat(QUESTION, temperature=0)
    assert thought < whole.usage["completion_tokens_details"]["reasoning_tokens"]
    budgets = [model.chat(QUESTION, temperature=0, thinking_budget=budget) for budget in range(thought + 1)]
    same = [one for one in budgets if one.reasoning == finish.answer.reasoning]
    assert same
    assert same[0].content == finish.answer.content
    assert not stream.answer_now()


def test_closing_ends_the_request():
    model = araio.load("pocket")
    stream = model.stream(QUESTION)
    next(stream)
    stream.close()
    assert model.engine.state().running == 0
