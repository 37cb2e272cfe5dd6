"""`Generation`: prepared by anyone at any time, run by whoever runs the engine."""

import pytest

import araio
from araio.engine.generation import Generation
from araio.errors import RequestError, TextError
from araio.kernels import native

QUESTION = "What is 47 + 38 - 12?"


@pytest.fixture(scope="module")
def pocket() -> araio.Model:
    if not native.offer().operations:
        pytest.skip("the compiled kernels are not built")
    return araio.load("pocket", threads=1, speculate="off")


pytestmark = pytest.mark.native


def run(model: araio.Model, *generations: Generation) -> list[araio.Answer]:
    for generation in generations:
        model.engine.enter(generation.job)
    while model.engine.step():
        pass
    for generation in generations:
        for token in generation.job.tokens:
            generation.take(token, 0.0)
    return [generation.answer() for generation in generations]


def test_a_request_is_prepared_while_the_engine_is_busy(pocket: araio.Model) -> None:
    with pocket.engine.lock:
        generations = [pocket.prepare(QUESTION, max_tokens=9), pocket.prepare_text("One, two", max_tokens=5)]
    answer, text = run(pocket, *generations)
    assert answer.reasoning == pocket.chat(QUESTION, max_tokens=9).reasoning
    assert text.content == pocket.complete("One, two", max_tokens=5).content


def test_ids_are_a_prompt_as_they_are(pocket: araio.Model) -> None:
    ids = [pocket.tokenizer.bos_id, *pocket.tokenizer.encode("One, two")]
    assert pocket.complete(ids, max_tokens=5).content == pocket.complete("One, two", max_tokens=5).content


def test_what_a_token_came_to_adds_up_to_the_answer(pocket: araio.Model) -> None:
    generation = pocket.prepare(QUESTION, logprobs=0)
    assert generation.is_reasoning
    tokens = pocket.engine.tokens(generation.job)
    steps = []
    for place, token in enumerate(tokens, 1):
        steps.append(generation.take(token, 0.1))
        assert generation.completion_tokens == place
        assert generation.reasoning_tokens == sum(step.is_reasoning for step in steps)
    answer = generation.answer()
    assert not generation.is_reasoning
    deltas = [delta for step in steps for delta in step.deltas]
    assert all(delta.text for delta in deltas)
    assert answer.content == "".join(d.text for d in deltas if isinstance(d, araio.ContentDelta))
    assert answer.logprobs == tuple(step.logprob for step in steps)
    assert [step.id for step in steps] == [logprob.id for logprob in answer.logprobs]
    assert [step.finish_reason for step in steps] == [None] * (len(steps) - 1) + ["stop"]
    assert answer.usage["completion_tokens_details"]["reasoning_tokens"] == generation.reasoning_tokens
    assert [step.is_reasoning for step in steps] == sorted(
        [step.is_reasoning for step in steps], reverse=True
    )


def test_mistakes_are_told_when_a_request_is_prepared(pocket: araio.Model) -> None:
    with pytest.raises(RequestError, match="'top' is no sampling parameter"):
        pocket.prepare(QUESTION, top=3)
    with pytest.raises(TextError, match="conversation is empty"):
        pocket.prepare([])
    with pytest.raises(RequestError, match="token 1 of the prompt is 999999"):
        pocket.prepare_text([1, 999_999])


def test_a_request_that_nobody_wants_any_more_ends_with_the_next_step(pocket: araio.Model) -> None:
    gone, waits, stays = (pocket.prepare(QUESTION, max_tokens=20) for _ in range(3))
    for generation in (gone, stays):
        pocket.engine.enter(generation.job)
    for _ in range(4):
        pocket.engine.step()
    pocket.engine.enter(waits.job)
    for generation in (gone, waits):
        generation.job.is_cancelled = True
    had = len(gone.job.tokens)
    pocket.engine.step()
    assert gone.job.is_done
    assert waits.job.is_done
    assert (len(gone.job.tokens), len(waits.job.tokens)) == (had, 0)
    while pocket.engine.step():
        pass
    assert len(stays.job.tokens) == 20
    assert pocket.engine.free_pages == pocket.engine.total_pages
