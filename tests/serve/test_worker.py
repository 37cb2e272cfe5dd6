"""The engine's thread, and what reaches the event loop of it."""

import asyncio

import pytest

import araio
from araio.serve.errors import ApiError
from araio.serve.steps import merged
from araio.serve.worker import Worker
from araio.testing.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def model():
    return araio.load("pocket", threads=1)


def run(model, work, **options):
    """Run `work(worker)` in an event loop with a thread of its own."""

    async def main():
        worker = Worker(model.engine, **options)
        worker.start()
        try:
            return await asyncio.wait_for(work(worker), PATIENCE_S)
        finally:
            await asyncio.to_thread(worker.stop)
            assert not worker.is_alive

    return asyncio.run(main())


def prepare(model, number=7, **sampling):
    return model.prepare(f"What is {number} + 5?", **{"max_tokens": 40, "seed": 1, **sampling})


def endless(model, number=8):
    return prepare(model, number, max_tokens=50_000, logit_bias={1: -100})


def is_idle(model):
    state = model.engine.state()
    return state.running == state.waiting == 0


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def test_tokens_come_in_order_and_add_up(model):
    async def work(worker):
        async with worker.run(prepare(model)) as steps:
            ids = [step.id async for step in steps]
        assert steps.has_ended
        return ids, steps.ids, steps.answer()

    ids, taken, answer = run(model, work)
    expected = model.chat("What is 7 + 5?", max_tokens=40, seed=1)
    assert ids == taken
    assert len(ids) == expected.usage["completion_tokens"]
    assert (answer.reasoning, answer.content) == (expected.reasoning, expected.content)
    assert answer.timings.prefill_s > 0


def test_several_requests_are_told_apart(model):
    async def work(worker):
        found = {0: [], 1: [], 2: []}
        generations = [prepare(model, seed=seed, temperature=1.0) for seed in range(3)]
        with worker.open(generations) as flows:
            async for index, step in merged(flows):
                found[index].append(step.id)
            return [flow.answer().content for flow in flows]

    contents = run(model, work)
    alone = [model.chat("What is 7 + 5?", max_tokens=40, seed=seed, temperature=1.0) for seed in range(3)]
    assert contents == [answer.content for answer in alone]


def test_leaving_cancels(model):
    async def work(worker):
        async with worker.run(endless(model)) as steps:
            async for _ in steps:
                break
            assert worker.active == 1
        assert worker.active == 0
        await until(lambda: is_idle(model))

    run(model, work)


def test_whoever_leaves_tokens_untaken_is_given_up(model):
    async def work(worker):
        async with worker.run(endless(model)) as steps:
            await until(lambda: is_idle(model) and steps.has_news)
            with pytest.raises(ApiError, match="more than 32 tokens"):
                async for _ in steps:
                    pass

    run(model, work, backlog=32)


def test_everybody_is_told_of_an_end(model):
    async def work(worker):
        async with worker.run(endless(model)) as steps:
            async for _ in steps:
                worker.end_all(ApiError(503, "the end"))
                break
            with pytest.raises(ApiError, match="the end"):
                async for _ in steps:
                    pass
        await until(lambda: is_idle(model))

    run(model, work)


def test_a_step_that_fails_ends_those_in_it_and_not_the_thread(model, monkeypatch):
    step, failures = model.engine.step, []

    def failing():
        if model.engine.state().waiting and not failures:
            failures.append(True)
            raise RuntimeError("a bug")
        return step()

    monkeypatch.setattr(model.engine, "step", failing)

    async def work(worker):
        async with worker.run(endless(model)) as steps:
            with pytest.raises(RuntimeError, match="a bug"):
                async for _ in steps:
                    pass
        async with worker.run(prepare(model)) as steps:
            return [step.id async for step in steps]

    assert run(model, work)
    assert is_idle(model)


def test_a_thread_that_ends_by_itself_leaves_nobody_waiting(model, monkeypatch, caplog):
    entered, enter = [], model.engine.enter

    def fail_second(job):
        entered.append(job)
        if len(entered) == 2:
            raise MemoryError
        enter(job)

    monkeypatch.setattr(model.engine, "enter", fail_second)

    async def work(worker):
        async with worker.run(prepare(model)) as steps, worker.run(prepare(model)) as other:
            for each in (steps, other):
                with pytest.raises(ApiError, match="the engine has ended"):
                    async for _ in each:
                        pass
        assert not worker.is_alive
        with pytest.raises(ApiError, match="the engine has ended"):
            async with worker.run(prepare(model)):
                pass

    run(model, work)
    monkeypatch.undo()
    assert "the engine's thread has ended" in caplog.text
    while model.engine.step():
        pass
