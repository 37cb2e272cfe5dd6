"""Many prompts at a time: what each gets is what it would get alone, and nothing stays behind."""

import pytest

from araio.adapt.answers import ask
from araio.errors import RequestError
from araio.eval.prompts import Prompt, read_prompts


def test_each_gets_what_it_would_get_alone(pocket):
    prompts = read_prompts(["task:chain,letters"], n=20)
    told = []
    asked = ask(pocket, prompts, told.append, temperature=0, max_tokens=200)
    assert [one.prompt for one in asked] == prompts
    assert sorted(map(id, told)) == sorted(map(id, asked))
    for one in asked[:3]:
        alone = pocket.chat(one.prompt.messages, temperature=0, max_tokens=200)
        assert (alone.reasoning, alone.content) == (one.answer.reasoning, one.answer.content)
        text = pocket.tokenizer.decode(one.ids[one.prompt_tokens :].tolist())
        assert alone.content in text
        assert len(one.ids) == alone.usage["total_tokens"]


def test_an_answer_at_its_limit_is_not_finished(pocket):
    asked = ask(pocket, read_prompts(["task:chain"], n=2), temperature=0, max_tokens=3)
    assert [one.is_finished for one in asked] == [False, False]


def test_whoever_stops_leaves_nothing_running(tiny):
    def stop(answered):
        raise KeyboardInterrupt

    prompts = [Prompt(({"role": "user", "content": "a" * n},), None, "test") for n in range(1, 30)]
    with pytest.raises(KeyboardInterrupt):
        ask(tiny, prompts, stop, max_tokens=4)
    assert not tiny.engine.step()
    assert tiny.engine.free_pages == tiny.engine.total_pages


def test_a_prompt_that_cannot_be_asked_is_told_before_any_runs(tiny):
    prompts = [Prompt(({"role": "user", "content": "a" * n},), None, "test") for n in (1, 5000)]
    with pytest.raises(RequestError):
        ask(tiny, prompts, max_tokens=4)
    assert not tiny.engine.step()


def test_nothing_asked_is_nothing_answered(tiny):
    assert ask(tiny, []) == []
