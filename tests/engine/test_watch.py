"""What the engine shows of itself, at any time and after each step."""

from threading import Thread

import numpy as np
import pytest

from araio.engine.engine import Engine
from araio.engine.request import SamplingParams
from araio.engine.watch import EngineState, EngineStep
from araio.kernels.ops import PAGE
from araio.kernels.select import select
from araio.nn.model import Model
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.load import load_model

LONG = list(range(1, 2 * PAGE + 10))
PARAMS = SamplingParams(max_tokens=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("watch")
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=1024)
    return load_model(folder, select(threads=1).ops)


@pytest.mark.parametrize("speculate", ["off", "on"])
def test_a_watcher_sees_every_token_that_ran_and_its_experts(model: Model, speculate: str) -> None:
    engine, steps = Engine(model, chunk=100, speculate=speculate), list[EngineStep]()
    engine.watch(steps.append)
    jobs = [engine.submit(LONG, PARAMS, []), engine.submit([1, 2, 3], PARAMS, [])]
    count = 0
    while engine.step():
        count += 1
    assert len(steps) == count
    for step in steps:
        tokens = sum(part.tokens for part in step.parts)
        assert len(step.experts) == len(model.config.moe_layers)
        shapes = {chosen.shape for chosen in (*step.experts, *step.weights)}
        assert shapes == {(tokens, model.config.num_experts_per_tok)}
        assert step.seconds > 0
        assert step.streamed is None
    for job in jobs:
        parts = [part for step in steps for part in step.parts if part.job is job]
        assert sum(part.tokens for part in parts if part.is_prompt) == len(job.prompt)
        behind = sum(part.tokens for part in parts if not part.is_prompt)
        assert behind == 4 + job.draft_tokens - job.accepted_draft_tokens
        assert [part.is_prompt for part in parts] == sorted((part.is_prompt for part in parts), reverse=True)
        kept = [(part.start + place, int(part.ids[place])) for part in parts for place in range(part.kept)]
        text = [*job.prompt.tolist(), *(token.id for token in job.tokens)]
        assert kept == list(enumerate(text[:-1]))


def test_a_watcher_sees_what_the_module_drafts(model: Model) -> None:
    engine, steps = Engine(model, chunk=100, speculate="on"), list[EngineStep]()
    engine.watch(steps.append)
    jobs = [engine.submit(LONG, PARAMS, []), engine.submit([1, 2, 3], PARAMS, [])]
    while engine.step():
        pass
    runs = [run for step in steps for run in step.drafts]
    assert runs
    for run in runs:
        tokens = sum(part.tokens for part in run.parts)
        assert {ids.shape[0] for ids in (*run.experts, *run.weights)} == {tokens}
        assert len(run.experts) == 1
    for job in jobs:
        seen = [
            (part.start + place, int(part.ids[place]))
            for run in runs
            for part in run.parts
            if part.job is job
            for place in range(part.tokens)
        ]
        text = [*job.prompt.tolist(), *(token.id for token in job.tokens)]
        # At each position the module reads the token behind it.
        assert seen == list(enumerate(text[1:]))[: len(seen)]
        assert len(seen) >= len(job.prompt)


def test_all_who_watch_are_told_until_they_leave(model: Model) -> None:
    engine = Engine(model, speculate="off")
    first, second = list[EngineStep](), list[EngineStep]()
    watch_first, watch_second = first.append, second.append
    engine.watch(watch_first)
    engine.watch(watch_second)
    engine.submit([1, 2, 3], PARAMS, [])
    engine.step()
    engine.unwatch(watch_first)
    engine.unwatch(watch_first)
    engine.step()
    assert (len(first), len(second)) == (1, 2)


def test_a_watcher_changes_no_token(model: Model) -> None:
    ids = []
    for watcher in (None, lambda step: None):
        engine = Engine(model, speculate="off")
        if watcher is not None:
            engine.watch(watcher)
        job = engine.submit(LONG, PARAMS, [])
        while engine.step():
            pass
        ids.append([token.id for token in job.tokens])
    assert ids[0] == ids[1]


def test_a_watcher_that_fails_ends_no_request_and_is_told_no_more(model: Model, caplog) -> None:
    engine, told = Engine(model, speculate="off"), list[EngineStep]()

    def fail(step: EngineStep) -> None:
        told.append(step)
        raise OSError("no space left on device")

    engine.watch(fail)
    jobs = [engine.submit([number], PARAMS, []) for number in (7, 8)]
    while engine.step():
        pass
    assert [(job.error, len(job.tokens)) for job in jobs] == [(None, 5), (None, 5)]
    assert len(told) == 1
    assert "no space left on device" in caplog.text


def test_experts_that_cannot_be_told_fail_only_who_asked(model: Model, monkeypatch) -> None:
    engine = Engine(model, speculate="off")

    def fail(*_: object) -> None:
        raise MemoryError("no room for routes")

    monkeypatch.setattr("araio.engine.runner.routes_of", fail)
    asking, other = (engine.prepare([7], PARAMS, [], watches=watches) for watches in ("answer", None))
    for job in (asking, other):
        engine.enter(job)
    while engine.step():
        pass
    assert isinstance(asking.error, MemoryError)
    assert (other.error, len(other.tokens)) == (None, 5)


def test_a_request_that_fails_is_not_among_those_that_ran(model: Model, monkeypatch) -> None:
    engine, steps = Engine(model), list[EngineStep]()
    engine.watch(steps.append)
    jobs = [engine.submit([number], PARAMS, []) for number in (7, 8)]
    step = model.step

    def fails(segments, *others):
        if any(7 in segment.ids for segment in segments):
            raise MemoryError
        return step(segments, *others)

    monkeypatch.setattr(model, "step", fails)
    engine.step()
    assert isinstance(jobs[0].error, MemoryError)
    assert [part.job for part in steps[0].parts] == [jobs[1]]


def test_the_state_is_told_during_a_step(model: Model) -> None:
    engine = Engine(model, max_batch=1, speculate="off")
    assert engine.state() == EngineState(0, 0, 8, 8, 0, 0)
    seen: list[EngineState] = []
    engine.submit(LONG, PARAMS, [])
    engine.submit(LONG, PARAMS, [])

    def look() -> None:
        # From another thread, which could not have the lock.
        thread = Thread(target=lambda: seen.append(engine.state()))
        thread.start()
        thread.join(10)

    model.on_route = lambda layer, *_: look() if not seen else None
    try:
        engine.step()
    finally:
        model.on_route = None
    assert seen == [
        EngineState(running=1, waiting=1, free_pages=5, total_pages=8, prefix_queries=265, prefix_hits=0)
    ]
    while engine.step():
        pass
    assert engine.state() == EngineState(0, 0, 8, 8, 2 * len(LONG), 2 * PAGE)
    assert engine.state().free_pages == engine.free_pages


def test_ids_of_experts_are_those_of_the_model(model: Model) -> None:
    engine, steps = Engine(model, speculate="off"), list[EngineStep]()
    engine.watch(steps.append)
    chosen: list[np.ndarray] = []
    model.on_route = lambda layer, ids, weights: chosen.append(ids)
    try:
        engine.submit([1, 2, 3], SamplingParams(max_tokens=1), [])
        engine.step()
    finally:
        model.on_route = None
    for told, expected in zip(steps[0].experts, chosen, strict=True):
        np.testing.assert_array_equal(told, expected)
