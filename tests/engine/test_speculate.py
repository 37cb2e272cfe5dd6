"""Drafts: they save steps on a model that was trained to make them, and never change a token."""

import pytest

import araio
from araio.engine.engine import Engine
from araio.engine.generate import generate
from araio.engine.request import SamplingParams
from araio.engine.speculate import CHECK_EVERY, ENOUGH_STEPS, Speculation, check_speculate
from araio.errors import RequestError
from araio.kernels import native
from araio.kernels.ops import PAGE

QUESTIONS = ["What is 47 + 38 - 12?", "Sort the letters of the word banana."]


@pytest.fixture(scope="module")
def pocket() -> araio.Model:
    if not native.offer().operations:
        pytest.skip("the compiled kernels are not built")
    return araio.load("pocket", threads=1)


@pytest.mark.native
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_tokens=60, logprobs=3),
        SamplingParams(max_tokens=60, temperature=1.0, seed=5, logprobs=1, frequency_penalty=0.1),
    ],
)
def test_drafts_save_steps_and_change_no_token(pocket: araio.Model, params: SamplingParams) -> None:
    engine = Engine(pocket.network, pocket.tokenizer, speculate="on", chunk=16)
    jobs = [
        engine.submit(pocket.chat_format.render([{"role": "user", "content": question}]).ids, params)
        for question in QUESTIONS
    ]
    steps = 0
    while engine.step():
        steps += 1
    for job in jobs:
        alone = generate(pocket.network, job.prompt.tolist(), params, tokenizer=pocket.tokenizer)
        assert list(job.tokens) == list(alone)
        assert 0 < job.accepted_draft_tokens <= job.draft_tokens
    # Both prompts take a few steps; every accepted draft then saves one.
    answer = max(len(job.tokens) - job.accepted_draft_tokens for job in jobs)
    assert steps <= answer + sum(len(job.prompt) for job in jobs) // 16 + 2
    assert engine.free_pages == engine.total_pages


@pytest.mark.native
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_draft_is_made_that_nothing_could_come_of(pocket: araio.Model, limit: int) -> None:
    engine = Engine(pocket.network, pocket.tokenizer, speculate="on")
    job = engine.submit([5, 6, 7], SamplingParams(max_tokens=limit), stop_ids=[])
    while engine.step():
        pass
    assert len(job.tokens) == limit
    assert job.draft_tokens <= max(0, limit - 2)


@pytest.mark.native
def test_usage_counts_drafts(pocket: araio.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARAIO_SPECULATE", "on")
    eager, off = araio.load("pocket", threads=1), araio.load("pocket", threads=1, speculate="off")
    drafted, plain = (model.chat(QUESTIONS[0], seed=1, max_tokens=40) for model in (eager, off))
    assert drafted.usage["araio"]["accepted_draft_tokens"] > 10
    assert plain.usage["araio"]["draft_tokens"] == 0
    assert drafted.reasoning == plain.reasoning


@pytest.mark.native
def test_pages_without_the_modules_latents_are_no_beginning_for_drafts(pocket: araio.Model) -> None:
    """ "auto" starts plain, so the first to run a prompt and the next differ in what they leave behind."""
    prompt = pocket.chat_format.render([{"role": "user", "content": 9 * QUESTIONS[0]}]).ids
    params = SamplingParams(max_tokens=ENOUGH_STEPS + 4)
    jobs = {}
    for mode, runs in (("on", 1), ("auto", 3)):
        engine = Engine(pocket.network, pocket.tokenizer, speculate=mode)
        for run in range(runs):
            jobs[mode, run] = engine.submit(prompt, params)
            while engine.step():
                pass
    alone, plain, drafting, again = jobs.values()
    pages = (len(prompt) - 1) // PAGE
    assert pages > 0
    assert (plain.draft_tokens, plain.cached_tokens) == (0, 0)
    assert alone.accepted_draft_tokens > 0
    for job, cached in ((drafting, 0), (again, pages * PAGE)):
        assert job.cached_tokens == cached
        assert (job.draft_tokens, job.accepted_draft_tokens) == (
            alone.draft_tokens,
            alone.accepted_draft_tokens,
        )
        assert job.tokens == plain.tokens == alone.tokens


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(RequestError, match="speculate is 'yes'; expected auto, on or off"):
        check_speculate("yes")
    with pytest.raises(RequestError, match="expected auto"):
        araio.load("pocket", speculate="maybe")


def test_on_and_off_do_not_measure() -> None:
    for mode, answer in (("on", True), ("off", False)):
        speculation = Speculation(mode)
        for _ in range(2 * ENOUGH_STEPS):
            speculation.record(1, answer, 9.0, 1)
            speculation.record(1, not answer, 1.0, 1)
        assert speculation.decide(1) is answer


@pytest.mark.parametrize(("seconds", "pays"), [(1.5, True), (2.5, False)])
def test_auto_tries_both_and_then_takes_what_costs_less_per_token(seconds: float, pays: bool) -> None:
    speculation = Speculation("auto")
    assert speculation.decide(1) is False
    for _ in range(ENOUGH_STEPS):
        speculation.record(1, False, 1.0, 1)
    assert speculation.decide(1) is True
    for _ in range(ENOUGH_STEPS):
        speculation.record(1, True, seconds, 2)
    decisions = [speculation.decide(1) for _ in range(CHECK_EVERY)]
    assert decisions == [pays] * (CHECK_EVERY - 1) + [not pays]
    assert speculation.decide(8) is False  # a batch of another size is measured by itself


def test_auto_notices_when_costs_change() -> None:
    speculation = Speculation("auto")
    for seconds in (1.0, 3.0):
        for _ in range(300):
            speculation.record(1, False, 1.0, 1)
            speculation.record(1, True, seconds, 2)
    assert not any(speculation.decide(1) for _ in range(CHECK_EVERY - 1))
