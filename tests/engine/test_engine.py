"""The engine against the naive loop: the same tokens, whatever runs beside them and however it is cut."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.engine.engine import Engine
from araio.engine.generate import generate
from araio.engine.job import Job
from araio.engine.request import SamplingParams
from araio.engine.sampling import score
from araio.engine.scheduler import SCORED_CHUNK
from araio.engine.tokens import GeneratedToken
from araio.errors import CacheFullError, GenerationError, RequestError
from araio.formats.store_layout import StoreCodecs
from araio.kernels import native
from araio.kernels.ops import PAGE
from araio.kernels.select import select
from araio.nn.model import Model
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.convert import convert
from araio.weights.load import load_model

pytestmark = pytest.mark.native

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, 200, length).tolist() for length in (1, 5, 40, 300, 140, 129)]
PARAMS = [
    SamplingParams(max_tokens=9, logprobs=2),
    SamplingParams(max_tokens=7, temperature=1.0, seed=3, logprobs=0),
    SamplingParams(max_tokens=11, temperature=0.7, top_p=0.9, seed=4, repetition_penalty=1.1),
]
REQUESTS = [(prompt, PARAMS[place % len(PARAMS)]) for place, prompt in enumerate(PROMPTS)]
SHARED = [*PROMPTS[3][:280], 1, 2, 3]  # two full pages of another prompt, then its own end

Kept = list[tuple[int, float | None, tuple[tuple[int, float], ...]]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    if not native.offer().operations:
        pytest.skip("the compiled kernels are not built")
    from araio.kernels import _native

    before = _native.threads()
    folder = tmp_path_factory.mktemp("model")
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=1024)
    yield load_model(folder, select(threads=1).ops)
    _native.set_threads(before)


@pytest.fixture(scope="module")
def expected(model: Model) -> list[Kept]:
    return [kept(generate(model, prompt, params)) for prompt, params in REQUESTS]


@pytest.fixture
def not_a_number(model: Model, expected: list[Kept], monkeypatch: pytest.MonkeyPatch) -> int:
    """A token that nobody else comes across, whose embedding is NaN."""
    seen = {*SHARED, *(token for prompt in PROMPTS for token in prompt)}
    seen |= {token for answer in expected for token, *_ in answer}
    bad, embed = max(set(range(model.config.vocab_size)) - seen), model.ops.embed

    def with_nan(ids, weight):
        x = embed(ids, weight)
        x[np.asarray(ids) == bad] = np.nan
        return x

    monkeypatch.setattr(model, "ops", replace(model.ops, embed=with_nan))
    return bad


def kept(tokens: Iterator[GeneratedToken]) -> Kept:
    return [(token.id, token.sampled.logprob, token.sampled.alternatives) for token in tokens]


def run(engine: Engine) -> None:
    while engine.step():
        pass


def run_as_they_come(engine: Engine) -> list[Job]:
    """All requests, each two steps after the one before it."""
    jobs = []
    for request in REQUESTS:
        jobs.append(engine.submit(*request))
        engine.step()
        engine.step()
    run(engine)
    return jobs


def nothing_is_held(engine: Engine) -> bool:
    return engine.free_pages == engine.total_pages and not engine.step()


@pytest.mark.parametrize("speculate", ["off", "on"])
@pytest.mark.parametrize(("chunk", "threads"), [(1, 1), (7, 3), (64, 1), (512, 1), (512, 3)])
def test_requests_that_come_and_go_get_what_each_gets_alone(
    model, expected, chunk: int, threads: int, speculate: str
) -> None:
    from araio.kernels import _native

    _native.set_threads(threads, worth_sharing=0)
    engine = Engine(model, max_batch=3, chunk=chunk, speculate=speculate)
    jobs = run_as_they_come(engine)
    _native.set_threads(1)
    assert [kept(iter(job.tokens)) for job in jobs] == expected
    assert all(job.tokens[-1].finish_reason for job in jobs)
    assert nothing_is_held(engine)


@pytest.mark.usefixtures("model")  # which says how many threads there are, and puts them back
@pytest.mark.parametrize(
    ("codec", "isa"),
    [("q4", "auto"), ("q8", "auto"), ("fp8", "auto"), ("q4", "baseline")],
)
def test_stored_weights_give_what_each_request_gets_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, isa: str
) -> None:
    from araio.kernels import _native

    monkeypatch.setenv("ARAIO_CPU_ISA", isa)
    write_tiny_checkpoint(tmp_path / "model", "v3-fp8", max_position_embeddings=1024)
    tables = "bf16" if codec == "fp8" else codec
    convert(tmp_path / "model", tmp_path / "store", StoreCodecs(codec, codec, tables))
    model = load_model(tmp_path / "store", select(threads=1).ops)
    alone = [kept(generate(model, *request)) for request in REQUESTS]
    _native.set_threads(3, worth_sharing=0)
    engine = Engine(model, max_batch=3, chunk=64, speculate="on")
    jobs = run_as_they_come(engine)
    _native.set_threads(1)
    assert [kept(iter(job.tokens)) for job in jobs] == alone
    assert nothing_is_held(engine)


def test_a_cached_beginning_changes_no_bit(model, expected) -> None:
    engine = Engine(model)
    cold = engine.submit(*REQUESTS[3])
    run(engine)
    warm, other = engine.submit(*REQUESTS[3]), engine.submit(SHARED, PARAMS[0])
    run(engine)
    assert (cold.cached_tokens, warm.cached_tokens, other.cached_tokens) == (0, 2 * PAGE, 2 * PAGE)
    assert kept(iter(cold.tokens)) == kept(iter(warm.tokens)) == expected[3]
    assert kept(iter(other.tokens)) == kept(generate(model, SHARED, PARAMS[0]))
    assert nothing_is_held(engine)


def test_a_prompt_of_full_pages_still_runs_its_last_token(model) -> None:
    engine = Engine(model)
    prompt = PROMPTS[3][: 2 * PAGE]
    jobs = []
    for _ in range(2):
        jobs.append(engine.submit(prompt, PARAMS[0]))
        run(engine)
    assert [job.cached_tokens for job in jobs] == [0, PAGE]
    assert kept(iter(jobs[1].tokens)) == kept(generate(model, prompt, PARAMS[0]))


def test_what_is_kept_makes_room_for_what_runs_oldest_first(model, expected) -> None:
    engine = Engine(model, cache_tokens=4 * PAGE)
    for place in (3, 4, 5, 3):
        job = engine.submit(*REQUESTS[place])
        run(engine)
        assert kept(iter(job.tokens)) == expected[place]
    assert job.cached_tokens == 0  # the pages it built on had to go
    assert nothing_is_held(engine)


def test_what_is_kept_stays_while_what_runs_needs_no_page(model, expected) -> None:
    engine = Engine(model, cache_tokens=4 * PAGE)
    engine.submit(*REQUESTS[3])
    run(engine)
    for place in (0, 1):  # a page each, which are all that is left
        engine.submit(*REQUESTS[place])
    run(engine)
    again = engine.submit(*REQUESTS[3])
    run(engine)
    assert again.cached_tokens == 2 * PAGE
    assert kept(iter(again.tokens)) == expected[3]


def test_requests_wait_for_room_in_the_order_they_came(model, expected) -> None:
    engine = Engine(model, cache_tokens=3 * PAGE)
    jobs = [engine.submit(*REQUESTS[place]) for place in (3, 4, 0)]
    while not jobs[0].is_done:
        engine.step()
        assert not jobs[1].tokens
        assert not jobs[2].tokens
    run(engine)
    assert [kept(iter(job.tokens)) for job in jobs] == [expected[place] for place in (3, 4, 0)]


def test_pages_that_requests_share_need_room_once(model, expected) -> None:
    engine = Engine(model, cache_tokens=7 * PAGE)
    engine.submit(*REQUESTS[3])
    run(engine)
    jobs = [engine.submit(*REQUESTS[3]) for _ in range(4)]  # two shared pages, and one each
    engine.step()
    assert [job.cached_tokens for job in jobs] == [2 * PAGE, 2 * PAGE, 2 * PAGE, 0]
    run(engine)
    assert [kept(iter(job.tokens)) for job in jobs] == 4 * [expected[3]]
    assert nothing_is_held(engine)


@pytest.mark.parametrize("steps", range(8))
def test_a_request_can_be_cancelled_at_any_time(model, expected, steps: int) -> None:
    engine = Engine(model, chunk=100, max_batch=2)
    jobs = [engine.submit(*REQUESTS[place]) for place in (4, 3, 2)]
    for _ in range(steps):
        engine.step()
    engine.cancel(jobs[1])
    engine.cancel(jobs[1])
    held = jobs[1].tokens.copy()
    run(engine)
    assert jobs[1].tokens == held
    assert [kept(iter(jobs[place].tokens)) for place in (0, 2)] == [expected[4], expected[2]]
    assert nothing_is_held(engine)


def test_a_request_that_fails_ends_alone(model, expected, not_a_number: int) -> None:
    engine = Engine(model, chunk=64)
    bad = [engine.submit([*PROMPTS[3][:at], not_a_number], PARAMS[0]) for at in (0, 200)]
    good = [engine.submit(*request) for request in REQUESTS]
    run(engine)
    for job in bad:
        assert isinstance(job.error, GenerationError)
        assert not job.tokens
    with pytest.raises(GenerationError, match="NaN"):
        next(engine.tokens(engine.prepare([not_a_number], PARAMS[0])))
    assert [kept(iter(job.tokens)) for job in good] == expected
    assert nothing_is_held(engine)


def test_an_error_within_a_step_is_that_of_the_request_which_causes_it(
    model, expected, not_a_number: int, monkeypatch
) -> None:
    bad_token, embed = not_a_number, model.ops.embed

    def runs_out_of_memory(ids, weight):
        if bad_token in ids:
            raise MemoryError
        return embed(ids, weight)

    monkeypatch.setattr(model, "ops", replace(model.ops, embed=runs_out_of_memory))
    engine = Engine(model, chunk=64, speculate="on")
    first = engine.submit(*REQUESTS[2])
    bad = [engine.submit([*PROMPTS[3][:at], bad_token], PARAMS[0]) for at in (0, 200)]
    good = [engine.submit(*request) for request in REQUESTS]
    run(engine)
    assert all(isinstance(job.error, MemoryError) and job.is_done for job in bad)
    assert [kept(iter(job.tokens)) for job in [first, *good]] == [expected[2], *expected]
    with pytest.raises(MemoryError):
        next(engine.tokens(engine.prepare([bad_token], PARAMS[0])))
    assert nothing_is_held(engine)


def test_an_error_within_a_draft_is_that_of_the_request_which_causes_it(model, expected, monkeypatch) -> None:
    engine = Engine(model, speculate="on")
    jobs = [engine.submit(*REQUESTS[place]) for place in (1, 2)]
    draft = engine._drafter.draft

    def fails(progress, routes) -> None:
        if any(entry.job is jobs[0] for entry in progress):
            raise MemoryError
        draft(progress, routes)

    monkeypatch.setattr(engine._drafter, "draft", fails)
    run(engine)
    assert isinstance(jobs[0].error, MemoryError)
    assert kept(iter(jobs[1].tokens)) == expected[2]
    assert nothing_is_held(engine)


def test_a_prompt_that_could_never_fit_is_refused_at_once(model) -> None:
    engine = Engine(model, cache_tokens=PAGE)
    with pytest.raises(CacheFullError, match=rf"300 tokens and its answer.*cache of {PAGE} tokens"):
        engine.submit(PROMPTS[3], PARAMS[0])
    with pytest.raises(RequestError, match="context holds 1024"):
        engine.submit([1] * 1024, PARAMS[0])
    assert nothing_is_held(engine)


@pytest.mark.parametrize("name", ["max_batch", "chunk", "cache_tokens"])
def test_numbers_below_one_are_refused(model, name: str) -> None:
    with pytest.raises(RequestError, match=f"{name} is 0"):
        Engine(model, **{name: 0})


def test_threads_that_iterate_together_each_get_their_own(model, expected) -> None:
    engine, barrier = Engine(model), Barrier(4)
    found: dict[int, Kept] = {}

    def ask(place: int) -> None:
        tokens = engine.tokens(engine.prepare(*REQUESTS[place]))
        barrier.wait()
        found[place] = kept(tokens)

    threads = [Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place] for place in range(4)] == expected[:4]
    assert nothing_is_held(engine)


def test_free_pages_are_counted_between_steps(model) -> None:
    engine, counted = Engine(model), []
    thread = Thread(target=lambda: counted.append(engine.free_pages))
    with engine.lock:
        thread.start()
        thread.join(0.05)
        assert not counted
    thread.join()
    assert counted == [engine.total_pages]


def test_an_iterator_that_is_closed_frees_what_it_held(model) -> None:
    engine = Engine(model)
    tokens = engine.tokens(engine.prepare(*REQUESTS[3]))
    next(tokens)
    assert engine.free_pages < engine.total_pages
    tokens.close()
    assert nothing_is_held(engine)


def test_an_iterator_that_is_never_asked_holds_nothing(model) -> None:
    engine = Engine(model)
    engine.tokens(engine.prepare(*REQUESTS[3]))
    assert nothing_is_held(engine)


def test_an_interrupted_step_is_repeated(model, expected) -> None:
    engine = Engine(model)
    jobs = [engine.submit(*REQUESTS[place]) for place in (1, 2)]
    calls = count()

    def interrupt(*_: object) -> None:
        if next(calls) % 5 == 3:
            raise KeyboardInterrupt

    model.on_route = interrupt
    try:
        while not all(job.is_done for job in jobs):
            try:
                engine.step()
            except KeyboardInterrupt:
                continue
    finally:
        model.on_route = None
    assert [kept(iter(job.tokens)) for job in jobs] == expected[1:3]
    assert nothing_is_held(engine)


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.booleans()), max_size=8), st.integers(1, 200)
)
def test_no_page_is_ever_lost(model, expected, actions, chunk: int) -> None:
    engine = Engine(model, chunk=chunk, max_batch=3, cache_tokens=6 * PAGE, speculate="on")
    jobs: list[tuple[int, Job]] = []
    for place, steps, cancels in actions:
        jobs.append((place, engine.submit(*REQUESTS[place])))
        for _ in range(steps):
            engine.step()
        if cancels:
            engine.cancel(jobs[len(jobs) // 2][1])
    run(engine)
    for place, job in jobs:
        assert job.is_done
        found = kept(iter(job.tokens))
        assert found == expected[place][: len(found)]
    assert nothing_is_held(engine)


def test_an_answer_that_fills_the_cache_ends_there(model) -> None:
    engine = Engine(model, cache_tokens=2 * PAGE)
    prompt = PROMPTS[3][: 2 * PAGE - 3]
    job = engine.submit(prompt, SamplingParams(temperature=0, max_tokens=100), stop_ids=())
    run(engine)
    *_, last = job.tokens
    assert (len(job.tokens), last.finish_reason) == (3, "length")
    assert nothing_is_held(engine)


@pytest.mark.parametrize("speculate", ["off", "on"])
@pytest.mark.parametrize("chunk", [7, 512])
def test_a_prompt_can_be_scored_token_by_token(model, expected, speculate: str, chunk: int) -> None:
    engine = Engine(model, chunk=chunk, speculate=speculate)
    prompt, params = REQUESTS[3]
    engine.submit(prompt, params)
    run(engine)
    scored = engine.submit(prompt, replace(params, prompt_logprobs=3))
    others = [engine.submit(*request) for request in REQUESTS[:3]]
    only = engine.submit(prompt, replace(params, prompt_logprobs=3, max_tokens=0))
    run(engine)
    assert kept(iter(scored.tokens)) == expected[3]
    assert [kept(iter(job.tokens)) for job in others] == expected[:3]
    assert scored.cached_tokens == 0
    hidden = model.forward(np.array(prompt), model.new_cache())
    rows = model.logits(hidden)
    assert scored.prompt_logprobs == [
        score(token, row, 3) for token, row in zip(prompt[1:], rows, strict=False)
    ]
    assert only.prompt_logprobs == scored.prompt_logprobs
    assert (only.is_done, len(only.tokens)) == (True, 0)
    assert nothing_is_held(engine)


def test_prompts_to_score_share_a_small_part_of_a_step(model, monkeypatch) -> None:
    engine, rows = Engine(model), []
    logits = model.logits
    monkeypatch.setattr(model, "logits", lambda hidden: rows.append(len(hidden)) or logits(hidden))
    params = SamplingParams(max_tokens=1, prompt_logprobs=0)
    jobs = [engine.submit(PROMPTS[place], params) for place in (3, 4, 5)]
    run(engine)
    assert max(rows) == SCORED_CHUNK
    assert [len(job.prompt_logprobs) for job in jobs] == [299, 139, 128]
    assert nothing_is_held(engine)


def test_the_naive_loop_gives_no_token_where_none_is_wanted(model) -> None:
    assert list(generate(model, [1, 2], SamplingParams(max_tokens=0, prompt_logprobs=0))) == []


def test_a_prompt_to_score_may_fill_the_cache(model) -> None:
    engine = Engine(model, cache_tokens=PAGE)
    job = engine.submit(PROMPTS[3][:PAGE], SamplingParams(max_tokens=0, prompt_logprobs=0))
    run(engine)
    assert len(job.prompt_logprobs) == PAGE - 1
    assert nothing_is_held(engine)


def test_a_step_that_nobody_wants_stops_at_the_next_layer(model, expected) -> None:
    engine = Engine(model, chunk=64)
    gone = [engine.submit(*REQUESTS[place]) for place in (3, 4)]
    seen: list[int] = []

    def cancel_both(layer: int, *_: object) -> None:
        seen.append(layer)
        for job in gone:
            job.is_cancelled = True

    model.on_route = cancel_both
    try:
        assert engine.step()
    finally:
        model.on_route = None
    assert len(seen) == 1
    assert len(model.config.moe_layers) > 1
    assert [job.length for job in gone] == [0, 0]
    after = engine.submit(*REQUESTS[3])
    run(engine)
    assert all(job.is_done and not job.tokens and job.error is None for job in gone)
    assert kept(iter(after.tokens)) == expected[3]
    assert nothing_is_held(engine)


def test_a_step_goes_on_for_those_who_still_want_it(model, expected) -> None:
    engine = Engine(model)
    gone, stays = engine.submit(*REQUESTS[3]), engine.submit(*REQUESTS[2])

    def cancel_one(*_: object) -> None:
        gone.is_cancelled = True

    model.on_route = cancel_one
    try:
        engine.step()
    finally:
        model.on_route = None
    run(engine)
    assert len(gone.tokens) <= 1
    assert kept(iter(stays.tokens)) == expected[2]
    assert nothing_is_held(engine)


@pytest.mark.parametrize("speculate", ["off", "on"])
def test_prompts_that_begin_alike_are_computed_once(model, expected, speculate: str) -> None:
    engine = Engine(model, chunk=100, speculate=speculate)
    jobs = [engine.submit(*REQUESTS[3]) for _ in range(3)]
    alike, other = engine.submit(SHARED, PARAMS[0]), engine.submit(*REQUESTS[0])
    run(engine)
    assert [job.cached_tokens for job in jobs] == [0, 2 * PAGE, 2 * PAGE]
    assert alike.cached_tokens == 2 * PAGE
    assert [kept(iter(job.tokens)) for job in jobs] == 3 * [expected[3]]
    assert kept(iter(alike.tokens)) == kept(generate(model, SHARED, PARAMS[0]))
    assert kept(iter(other.tokens)) == expected[0]
    assert nothing_is_held(engine)


def test_nobody_waits_for_a_beginning_that_is_there_or_never_comes(model, expected) -> None:
    engine = Engine(model, chunk=16)
    engine.submit(*REQUESTS[3])
    run(engine)
    # The first runs what is behind the pages they share, the second has those from the cache too.
    first, second = engine.submit(*REQUESTS[3]), engine.submit(SHARED, PARAMS[0])
    engine.step()
    assert (first.cached_tokens, second.cached_tokens) == (2 * PAGE, 2 * PAGE)
    run(engine)
    one, two = (engine.submit(PROMPTS[4], PARAMS[0]) for _ in range(2))
    engine.step()
    assert two.cache is None
    engine.cancel(one)
    run(engine)
    assert kept(iter(two.tokens)) == kept(generate(model, PROMPTS[4], PARAMS[0]))
    assert nothing_is_held(engine)


def test_nobody_waits_for_a_prompt_that_is_scored_bit_by_bit(model, expected) -> None:
    engine = Engine(model)
    scored = engine.submit(PROMPTS[3], replace(PARAMS[0], prompt_logprobs=0))
    job = engine.submit(*REQUESTS[3])
    engine.step()
    assert scored.prompt_left > 0
    assert job.prompt_left == 0  # in fewer steps than the other takes
    run(engine)
    assert kept(iter(job.tokens)) == expected[3]
    assert nothing_is_held(engine)


def test_pages_count_as_drafted_only_where_the_module_has_run(model) -> None:
    engine = Engine(model, speculate="on")
    prompt, one = PROMPTS[3], SamplingParams(max_tokens=1)
    first, again = engine.submit(prompt, one), engine.submit(prompt, one)
    run(engine)
    assert (first.cached_tokens, again.cached_tokens) == (0, 2 * PAGE)  # neither drafts
    ends = engine.submit(prompt, SamplingParams(max_tokens=9), stop_ids=[first.tokens[0].id])
    run(engine)
    assert (len(ends.tokens), ends.cached_tokens) == (1, 0)
    drafts, more = (engine.submit(prompt, SamplingParams(max_tokens=9)) for _ in range(2))
    run(engine)
    assert (drafts.cached_tokens, more.cached_tokens) == (0, 2 * PAGE)
    assert drafts.draft_tokens > 0
    assert nothing_is_held(engine)


def test_who_is_cancelled_before_it_enters_never_runs(model) -> None:
    engine = Engine(model)
    job = engine.prepare(*REQUESTS[0])
    engine.cancel(job)
    engine.enter(job)
    run(engine)
    assert (job.is_done, len(job.tokens)) == (True, 0)
    assert nothing_is_held(engine)
