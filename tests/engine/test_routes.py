"""Which experts a request's tokens used: as the model alone would choose them, and only what was kept."""

import numpy as np
import pytest

import araio
from araio.kernels import native

pytestmark = pytest.mark.native

QUESTION = "What is 47 + 38 - 12?" * 20  # more than a page, so that it could come from the cache


@pytest.fixture(scope="module", params=["off", "on"])
def pocket(request: pytest.FixtureRequest) -> araio.Model:
    if not native.offer().operations:
        pytest.skip("the compiled kernels are not built")
    return araio.load("pocket", threads=1, speculate=request.param)


def test_every_position_but_the_last_has_its_experts(pocket) -> None:
    pocket.chat(QUESTION, max_tokens=1)  # leaves its prompt in the cache
    generations = [
        pocket.prepare(QUESTION, watch_experts=watches, temperature=0, max_tokens=40)
        for watches in ("all", None)
    ]
    others = [pocket.prepare_text(f"Number {n}", max_tokens=30, seed=n, temperature=1.0) for n in range(4)]
    for generation in (*generations, *others):
        pocket.engine.enter(generation.job)
    while pocket.engine.step():
        pass
    watched, plain = generations
    steps = [watched.take(token, 0.0) for token in watched.job.tokens]
    assert [token.id for token in plain.job.tokens] == [step.id for step in steps]
    answer = watched.answer()
    prompt = watched.job.prompt.tolist()
    ids = [*prompt, *(step.id for step in steps)]
    experts, weights = answer.routes
    assert len(experts) == len(weights) == len(ids) - 1
    assert experts.dtype == np.int32
    assert weights.dtype == np.float32
    expected_experts, expected_weights = pocket.route(prompt)
    np.testing.assert_array_equal(experts[: len(prompt)], expected_experts)
    np.testing.assert_array_equal(weights[: len(prompt)], expected_weights)
    for place, step in enumerate(steps, len(prompt) - 1):
        np.testing.assert_array_equal(step.routes.ids, experts[place])
        np.testing.assert_array_equal(step.routes.weights, weights[place])
    assert watched.job.cached_tokens == 0
    assert plain.job.cached_tokens > 0
    # A generated token attends in another form, whose last bits differ: nearly all choices agree.
    behind, _ = pocket.route(ids[:-1])
    assert (np.sort(experts) == np.sort(behind)).mean() > 0.95


def test_nobody_is_told_who_has_not_asked(pocket) -> None:
    generation = pocket.prepare(QUESTION, max_tokens=3)
    steps = [generation.take(token, 0.0) for token in pocket.engine.tokens(generation.job)]
    assert {step.routes for step in steps} == {None}
    assert generation.answer().routes is None


def test_drafts_leave_the_experts_of_what_was_kept(pocket) -> None:
    asked = {"watch_experts": "all", "temperature": 1.0, "seed": 5, "max_tokens": 60}
    answer = pocket.chat("What is 47 + 38 - 12?", **asked)
    alone = araio.load("pocket", threads=1, speculate="off").chat("What is 47 + 38 - 12?", **asked)
    np.testing.assert_array_equal(answer.routes.ids, alone.routes.ids)
    np.testing.assert_array_equal(answer.routes.weights, alone.routes.weights)


def test_experts_of_the_answer_alone_leave_the_prompt_in_the_cache(pocket) -> None:
    long = f"{QUESTION} " * 8  # pages of it
    asked = {"temperature": 0, "max_tokens": 20}
    everything = pocket.chat(long, watch_experts="all", **asked)
    generation = pocket.prepare(long, watch_experts="answer", **asked)
    steps = [generation.take(token, 0.0) for token in pocket.engine.tokens(generation.job)]
    assert generation.job.cached_tokens > 0
    assert generation.answer().routes is None
    ids = np.stack([step.routes.ids for step in steps])
    np.testing.assert_array_equal(ids, everything.routes.ids[-len(steps) :])
