"""What the engine counts, against the closed forms of `costs/` and against what a meter gave out."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import araio
from araio.config import ModelConfig
from araio.costs.flops import decode_flops, prefill_flops
from araio.costs.parameters import cache_bytes_per_token, count_parameters
from araio.costs.rates import Rates
from araio.costs.storage import Storage
from araio.costs.traffic import decode_bytes
from araio.engine import ledger
from araio.engine.engine import Engine
from araio.engine.job import Job
from araio.engine.request import SamplingParams
from araio.formats.store_layout import StoreCodecs
from araio.kernels import native, reference
from araio.meters.energy import Energy
from araio.meters.meter import Mark, Meter
from araio.nn.model import Model
from araio.testing.checkpoints import tiny_config, write_tiny_checkpoint
from araio.testing.random_weights import random_model
from araio.weights.load import load_model

F32 = Storage("f32", "f32", "f32")
RNG = np.random.default_rng(0)


class Steady:
    """A counter by which a joule passes each time that somebody looks, half of it idling."""

    method, idle_watts = "steady", None

    def __init__(self) -> None:
        self.now = 0.0

    def joules(self) -> float:
        self.now += 1.0
        return self.now

    def bounds(self, joules: float, seconds: float) -> tuple[float, float]:
        return joules / 2, joules * 3


class Recorder(Meter):
    """A meter that keeps every window it was asked about."""

    def __init__(self) -> None:
        super().__init__([Steady()])
        self.windows: list[Energy] = []

    def between(self, start: Mark, end: Mark) -> Energy:
        energy = replace(super().between(start, end), idle_joules=(end.joules[0] - start.joules[0]) / 3)
        self.windows.append(energy)
        return energy


class Readings:
    """Sees every decision of the routers; each call is one reading of the distinct experts in it."""

    def __init__(self, model: Model) -> None:
        self.distinct: list[int] = []
        model.on_route = lambda layer, ids, weights: self.distinct.append(len(np.unique(ids)))


@pytest.fixture(scope="module")
def pocket() -> araio.Model:
    if not native.offer().operations:
        pytest.skip("the compiled kernels are not built")
    return araio.load("pocket", threads=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=1024)
    return load_model(folder, reference.OPS)


@pytest.fixture(autouse=True)
def no_hook(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "tiny" in request.fixturenames:
        request.getfixturevalue("tiny").on_route = None


def run(engine: Engine, *requests: tuple[list[int], int]) -> list[Job]:
    """Requests of a prompt and a number of tokens, together."""
    jobs = [engine.submit(prompt, SamplingParams(max_tokens=n), stop_ids=[]) for prompt, n in requests]
    while engine.step():
        pass
    assert all(job.error is None for job in jobs)
    return jobs


def prompt_of(config: ModelConfig, length: int) -> list[int]:
    ids: list[int] = RNG.integers(0, config.vocab_size, length).tolist()
    return ids


def check_against_closed_forms(model: Model, storage: Storage, prompt: int, generated: int) -> None:
    """One request: its prompt in one step, then one token a step, of which the last does not run."""
    config, held = model.config, model.held
    readings = Readings(model)
    engine = Engine(model, speculate="off", cache_tokens=256, meter=Recorder())
    (job,) = run(engine, (prompt_of(config, prompt), generated))
    work, contexts = job.work, range(prompt + 1, prompt + generated)
    flops = [prefill_flops(config, prompt), *(decode_flops(config, context) for context in contexts)]
    assert Rates.of_model(config).flops(work) == sum(each.total for each in flops)
    assert work.cache_bytes == cache_bytes_per_token(config) * (prompt + sum(contexts))
    steps = [decode_bytes(config, 1, context, storage) for context in contexts]
    in_prompt = sum(readings.distinct[: len(config.moe_layers)]) * held.expert
    dense = decode_bytes(config, 1, 1, storage).dense + (prompt - 1) * held.row
    assert work.weight_bytes == sum(step.dense for step in steps) + dense
    assert work.expert_bytes == sum(step.experts for step in steps) + in_prompt
    uses = work.tokens * len(config.moe_layers) * config.num_experts_per_tok
    assert (work.tokens, work.expert_uses) == (prompt + generated - 1, uses)


# ---------------------------------------------------------------------- against closed forms


@pytest.mark.native
def test_pocket_counts_as_the_closed_forms_do(pocket: araio.Model) -> None:
    # Routers and norms are published in bfloat16 and held as float32.
    check_against_closed_forms(pocket.network, Storage("bf16", "bf16", "bf16", "f32"), 37, 9)
    pocket.network.on_route = None


SIZE = st.integers(1, 12)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    groups, per_group, layers = draw(st.integers(1, 3)), draw(st.integers(2, 4)), draw(st.integers(1, 3))
    return tiny_config(
        "v3",
        vocab_size=draw(st.integers(2, 40)),
        hidden_size=draw(SIZE),
        intermediate_size=draw(SIZE),
        num_hidden_layers=layers,
        num_attention_heads=draw(st.integers(1, 3)),
        q_lora_rank=draw(st.none() | SIZE),
        kv_lora_rank=draw(SIZE),
        qk_nope_head_dim=draw(SIZE),
        qk_rope_head_dim=2 * draw(SIZE),
        v_head_dim=draw(SIZE),
        moe_intermediate_size=draw(SIZE),
        n_routed_experts=groups * per_group,
        n_group=groups,
        topk_group=draw(st.integers(1, groups)),
        n_shared_experts=draw(st.integers(0, 2)),
        num_experts_per_tok=draw(st.integers(1, 2)),
        first_k_dense_replace=draw(st.integers(0, layers)),
        num_nextn_predict_layers=0,
        tie_word_embeddings=draw(st.booleans()),
        eos_token_id=1,
    )


@settings(max_examples=25)
@given(configs(), st.integers(1, 12), st.integers(1, 4))
def test_any_model_counts_as_the_closed_forms_do(config: ModelConfig, prompt: int, generated: int) -> None:
    model = random_model(config, StoreCodecs("f32", "f32", "f32"), reference.OPS)
    check_against_closed_forms(model, F32, prompt, generated)


def test_the_active_parameters_are_those_of_the_config(tiny: Model) -> None:
    (job,) = run(Engine(tiny, speculate="off", meter=Recorder()), ([5, 6, 7], 4))
    counted, rates = count_parameters(tiny.config), Rates.of_model(tiny.config)
    routed = rates.expert * job.work.expert_uses / job.work.tokens
    assert routed == counted.routed_experts.active


def test_what_is_held_is_every_weight_once(tiny: Model) -> None:
    """The tiny checkpoint is in bfloat16, which the reference holds as float32."""
    config, held = tiny.config, tiny.held
    counted = count_parameters(config, F32)
    experts = (len(config.moe_layers) + 1) * config.n_routed_experts * held.expert
    tables = held.head + held.row * config.vocab_size
    assert held.dense + held.draft + experts + tables == counted.model.bytes + counted.mtp.bytes


# ---------------------------------------------------------------------- shared among requests


@pytest.mark.parametrize("speculate", ["off", "on"])
def test_shares_of_bytes_add_up_to_what_was_read(tiny: Model, speculate, monkeypatch) -> None:
    readings, reads = Readings(tiny), []
    engine = Engine(tiny, speculate=speculate, chunk=64, meter=Recorder())
    read = engine._ledger._read

    def recorded(parts, dense, routes) -> None:
        tokens = sum(tokens for _, tokens, _ in parts)
        has_scores = any(scores for _, _, scores in parts)
        reads.append(dense + tiny.held.head * has_scores + tiny.held.row * tokens)
        read(parts, dense, routes)

    monkeypatch.setattr(engine._ledger, "_read", recorded)
    requests = [(prompt_of(tiny.config, length), n) for length, n in ((5, 9), (150, 4), (40, 12), (1, 1))]
    works = [work for job in run(engine, *requests) for work in (job.work, job.draft_work)]
    assert sum(work.weight_bytes for work in works) == sum(reads)
    assert sum(work.expert_bytes for work in works) == sum(readings.distinct) * tiny.held.expert
    assert all(work.expert_bytes > 0 for work in works if work.tokens)


def test_two_requests_alike_share_alike_and_read_less_than_apart(tiny: Model) -> None:
    prompt = prompt_of(tiny.config, 30)
    (alone,) = run(Engine(tiny, speculate="off", meter=Recorder()), (prompt, 6))
    one, other = run(Engine(tiny, speculate="off", meter=Recorder()), (prompt, 6), (prompt, 6))
    assert abs(one.work.memory_bytes - other.work.memory_bytes) <= 40  # one from each rounding
    weights = one.work.weight_bytes + one.work.expert_bytes
    rows = one.work.tokens * tiny.held.row
    assert weights - rows == pytest.approx(
        (alone.work.weight_bytes + alone.work.expert_bytes - rows) / 2, abs=20
    )
    assert one.work.cache_bytes == alone.work.cache_bytes
    assert abs(one.energy.joules - other.energy.joules) <= 2


def test_what_was_cached_is_read_and_not_run(tiny: Model) -> None:
    engine = Engine(tiny, speculate="off", meter=Recorder())
    prompt = prompt_of(tiny.config, 300)
    first, again = (run(engine, (prompt, 1))[0] for _ in range(2))
    assert (first.work.tokens, again.work.tokens) == (300, 300 - again.cached_tokens)
    assert again.cached_tokens == 256
    rates = Rates.of_model(tiny.config)
    assert rates.flops(again.work) == prefill_flops(tiny.config, 44, cached=256).total
    assert again.work.cache_bytes == first.work.cache_bytes


def test_drafts_attend_to_what_was_kept(tiny: Model, monkeypatch) -> None:
    """Each run of the module over some followers: they see themselves and all that was kept before them."""
    engine = Engine(tiny, speculate="on", cache_tokens=256, meter=Recorder())
    assert engine._drafter is not None
    draft, runs = engine._drafter.draft, []

    def recorded(progress, routes) -> None:
        runs.extend((entry.job.length, len(entry.followers), entry.is_prompt) for entry in progress)
        draft(progress, routes)

    monkeypatch.setattr(engine._drafter, "draft", recorded)
    (job,) = run(engine, (prompt_of(tiny.config, 21), 8))
    work, in_layer = job.draft_work, cache_bytes_per_token(tiny.config) // tiny.config.num_hidden_layers
    pairs = {
        is_prompt: sum(sum(range(end - n + 1, end + 1)) for end, n, kind in runs if kind == is_prompt)
        for is_prompt in (True, False)
    }
    assert (work.expanded_pairs, work.absorbed_pairs) == (pairs[True], pairs[False])
    assert work.tokens == sum(n for _, n, _ in runs)
    assert work.cache_bytes == sum(end for end, _, _ in runs) * in_layer


# ---------------------------------------------------------------------- joules


def totals(meter: Recorder) -> list[int]:
    return [
        sum(round(getattr(window, name) * 1e6) for window in meter.windows)
        for name in ("joules", "low", "high", "idle_joules")
    ]


def shares(jobs: list[Job]) -> list[int]:
    return [sum(getattr(job.energy, name) for job in jobs) for name in ("joules", "low", "high", "idle")]


@pytest.mark.parametrize("longest_ns", [ledger.LONGEST_WINDOW_NS, 0])
def test_joules_of_all_requests_add_up_to_those_of_the_windows(tiny: Model, monkeypatch, longest_ns) -> None:
    monkeypatch.setattr(ledger, "LONGEST_WINDOW_NS", longest_ns)
    meter = Recorder()
    engine = Engine(tiny, chunk=32, max_batch=3, meter=meter)
    jobs = run(engine, *((prompt_of(tiny.config, 3 + 17 * n), 2 + 3 * n) for n in range(5)))
    assert shares(jobs) == totals(meter)
    assert all(job.energy.low < job.energy.joules < job.energy.high for job in jobs)
    assert len(meter.windows) >= 5


def test_a_step_is_shared_by_the_operations_of_its_requests(tiny: Model) -> None:
    engine = Engine(tiny, speculate="off", meter=Recorder())
    one, other = run(engine, (prompt_of(tiny.config, 90), 1), (prompt_of(tiny.config, 2), 1))
    rates = Rates.of_model(tiny.config)
    share = rates.flops(one.work) / (rates.flops(one.work) + rates.flops(other.work))
    assert share != pytest.approx(90 / 92, rel=1e-3)  # as it would be by tokens
    assert one.energy.joules / (one.energy.joules + other.energy.joules) == pytest.approx(share, rel=1e-4)


def test_a_request_alone_gets_all_and_idling_between_two_is_nobodys(tiny: Model) -> None:
    meter = Recorder()
    engine = Engine(tiny, meter=meter)
    (first,) = run(engine, ([5, 6, 7], 3))
    meter._counters[0].now += 1000.0  # an hour without a question
    (second,) = run(engine, ([5, 6, 7], 3))
    assert [round(window.joules * 1e6) for window in meter.windows] == [
        first.energy.joules,
        second.energy.joules,
    ]
    assert second.energy.joules == 1_000_000


def test_a_pause_is_paid_by_those_who_ran_before_it(tiny: Model, monkeypatch) -> None:
    """Somebody reads a token, leaves the answer open for an hour, and asks something else."""
    meter, clock = Recorder(), [0.0]
    monkeypatch.setattr(ledger, "monotonic", lambda: clock[0])
    engine = Engine(tiny, meter=meter)
    left = engine.submit([5, 6, 7], SamplingParams(max_tokens=50), stop_ids=[])
    engine.step()
    clock[0] += 3600.0
    meter._counters[0].now += 1000.0  # type: ignore[attr-defined]
    asked = engine.submit([5, 6, 8], SamplingParams(max_tokens=2), stop_ids=[])
    while not asked.is_done:
        engine.step()
    assert left.energy.joules > 1000e6
    assert asked.energy.joules < 1e6
    clock[0] += 3600.0
    meter._counters[0].now += 1000.0  # type: ignore[attr-defined]
    later = engine.submit([5, 6, 9], SamplingParams(max_tokens=2), stop_ids=[])
    while not later.is_done:
        engine.step()
    assert later.energy.joules < 1e6
    engine.cancel(left)
    assert shares([left, asked, later]) == totals(meter)


def test_a_cancelled_request_bears_its_own_part(tiny: Model) -> None:
    meter = Recorder()
    engine = Engine(tiny, meter=meter)
    params = SamplingParams(max_tokens=50)
    gone, stays = (engine.submit([5, 6, number], params, stop_ids=[]) for number in (7, 8))
    for _ in range(4):
        engine.step()
    engine.cancel(gone)
    part = gone.energy.joules
    assert 0 < part < 1_000_000
    while engine.step():
        pass
    assert gone.energy.joules == part
    assert shares([gone, stays]) == totals(meter)


def test_a_step_that_fails_costs_nobody_else(tiny: Model, monkeypatch) -> None:
    engine = Engine(tiny, speculate="off", meter=Recorder())
    embed = tiny.ops.embed

    def fails_for_seven(ids, weight):
        if 7 in np.asarray(ids):
            raise MemoryError
        return embed(ids, weight)

    monkeypatch.setattr(tiny, "ops", replace(tiny.ops, embed=fails_for_seven))
    params = SamplingParams(max_tokens=3)
    bad, good = (engine.submit([number], params, stop_ids=[]) for number in (7, 8))
    while engine.step():
        pass
    assert isinstance(bad.error, MemoryError)
    assert (bad.work.tokens, bad.energy.joules) == (0, 0)
    assert good.work.tokens == 3


def test_a_step_that_was_interrupted_leaves_nothing_behind(tiny: Model) -> None:
    meter = Recorder()
    engine = Engine(tiny, speculate="off", meter=meter)
    lost = engine.submit([5, 6], SamplingParams(max_tokens=9), stop_ids=[])
    engine.step()
    take_all, engine._runner._take_all = engine._runner._take_all, interrupt  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    engine._runner._take_all = take_all  # type: ignore[method-assign]
    engine.cancel(lost)
    before = lost.energy.joules
    (next_one,) = run(engine, ([7, 8], 3))
    assert lost.energy.joules == before
    assert next_one.energy.joules == 1_000_000


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
