"""Experts from disk give the bits that they give from memory, whatever the memory and whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import araio
from araio.engine.engine import Engine
from araio.engine.job import Job
from araio.engine.request import SamplingParams
from araio.errors import BudgetError
from araio.formats.store_layout import StoreCodecs
from araio.kernels import native, reference
from araio.kernels.select import select
from araio.testing.checkpoints import FAMILIES, tiny_config, write_tiny_checkpoint
from araio.weights import load
from araio.weights.budget import Budget
from araio.weights.convert import convert
from araio.weights.load import Memory, load_model, open_model
from araio.weights.locate import locate
from araio.weights.machine_memory import MachineMemory

from .streams import bits, check, scores, stored_as, streamed

RNG = np.random.default_rng(1)
IDS = RNG.integers(0, 250, 24).tolist()
FEW_THEN_DECODE = {"ids": IDS, "chunk": 7, "prompt": 18}


def experts_of(family: str) -> int:
    """All routed experts, those of the MTP module included."""
    config = tiny_config(family)
    return len([*config.moe_layers, *config.mtp_layers[:1]]) * config.n_routed_experts


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        write_tiny_checkpoint(home / family, family)
    return {family: home / family for family in FAMILIES}


@pytest.fixture
def threads() -> Iterator[object]:
    """Sets how many threads compute, and shares even the smallest work among them."""
    if not native.offer().operations:
        pytest.skip("the compiled kernels are not built")
    from araio.kernels import _native

    before = _native.threads()
    yield lambda number: _native.set_threads(number, worth_sharing=0)
    _native.set_threads(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_number_of_places_gives_the_same_bits(folders: dict[str, Path], family: str) -> None:
    expected = scores(load_model(folders[family]), **FEW_THEN_DECODE)
    for slots in range(2, experts_of(family) + 1):
        model, source = streamed(folders[family], slots)
        np.testing.assert_array_equal(scores(model, **FEW_THEN_DECODE), expected, err_msg=f"{slots} places")
        check(source)
        assert source.counters.missed > 0


@pytest.mark.parametrize("family", ["v2-lite", "v3-fp8"])
def test_the_reference_gives_the_same_bits(folders: dict[str, Path], family: str) -> None:
    expected = scores(load_model(folders[family], reference.OPS), **FEW_THEN_DECODE)
    for slots in (2, 5):
        model, _ = streamed(folders[family], slots, ops=reference.OPS)
        np.testing.assert_array_equal(scores(model, **FEW_THEN_DECODE), expected)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", ["q4", "q8", "fp8", "bf16", "f32"])
def test_stores_of_every_codec_on_any_number_of_threads(
    folders: dict[str, Path], tmp_path: Path, threads, name: str, number: int
) -> None:
    threads(number)
    source = folders["v3-fp8"]
    convert(source, tmp_path / "store", StoreCodecs(name, name, "bf16"))
    expected = scores(load_model(tmp_path / "store"), **FEW_THEN_DECODE)
    for slots in (2, 3, 8, 15):
        model, _ = streamed(tmp_path / "store", slots)
        np.testing.assert_array_equal(scores(model, **FEW_THEN_DECODE), expected, err_msg=f"{slots} places")


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("family", ["v2", "v3-fp8"])
def test_published_checkpoints_on_any_number_of_threads(
    folders: dict[str, Path], threads, family: str, number: int
) -> None:
    threads(number)
    expected = scores(load_model(folders[family]), **FEW_THEN_DECODE)
    for slots in (2, 7):
        model, _ = streamed(folders[family], slots)
        np.testing.assert_array_equal(scores(model, **FEW_THEN_DECODE), expected)


def test_a_published_checkpoint_in_float32(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = stored_as(folders["moonlight"], tmp_path / "wide", "f32")
    expected = scores(load_model(folder), **FEW_THEN_DECODE)
    model, _ = streamed(folder, 4)
    np.testing.assert_array_equal(scores(model, **FEW_THEN_DECODE), expected)


@pytest.mark.parametrize("io", ["auto", "buffered"])
def test_however_the_disk_is_read(folders: dict[str, Path], io: str) -> None:
    expected = scores(load_model(folders["v3"]), **FEW_THEN_DECODE)
    model, _ = streamed(folders["v3"], 5, io=io)
    np.testing.assert_array_equal(scores(model, **FEW_THEN_DECODE), expected)


@settings(max_examples=25)
@given(
    slots=st.integers(2, 48),
    chunk=st.integers(1, 40),
    sequences=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), min_size=1, max_size=3),
    pins=st.lists(st.integers(0, 15), unique=True, max_size=6),
)
def test_sequences_one_after_the_other(folders, resident_v3, slots, chunk, sequences, pins) -> None:
    kept = {1: pins} if len(pins) + 2 <= slots else None
    model, source = streamed(folders["v3"], slots, pins=kept)
    for number, (prompt, decoded) in enumerate(sequences):
        ids = np.random.default_rng(number).integers(0, 250, prompt + decoded).tolist()
        found = scores(model, ids, chunk, prompt)
        np.testing.assert_array_equal(found, scores(resident_v3, ids, chunk, prompt))
        check(source)


@pytest.fixture(scope="module")
def resident_v3(folders: dict[str, Path]):
    return load_model(folders["v3"])


# ---------------------------------------------------------------------- through the engine


@pytest.fixture(scope="module")
def long_v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "v3"
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=1024)
    return folder


LONG = RNG.integers(0, 200, 300).tolist()
REQUESTS = [
    (RNG.integers(0, 200, 1).tolist(), SamplingParams(max_tokens=5, logprobs=2)),
    (LONG, SamplingParams(max_tokens=6, temperature=1.0, seed=3, logprobs=0)),
    (RNG.integers(0, 200, 40).tolist(), SamplingParams(max_tokens=9, temperature=0.7, seed=4, logprobs=0)),
    ([*LONG[:280], 1, 2, 3], SamplingParams(max_tokens=5, logprobs=1)),  # begins with pages of another
]


def answers(engine: Engine, cancels: bool = False) -> list[list[tuple[int, float | None]]]:
    """All requests, each a step after the one before; one that is not wanted comes and goes between them."""
    jobs: list[Job] = []
    for request in REQUESTS:
        jobs.append(engine.submit(*request))
        engine.step()
        if cancels:
            unwanted = engine.submit(LONG[::-1][:70], SamplingParams(max_tokens=9))
            engine.step()
            engine.cancel(unwanted)
    while engine.step():
        pass
    assert [job.error for job in jobs] == [None] * len(jobs)
    return [[(token.id, token.sampled.logprob) for token in job.tokens] for job in jobs]


@pytest.mark.native
@pytest.mark.parametrize("speculate", ["off", "on"])
@pytest.mark.parametrize("slots", [2, 9, 30])
def test_requests_together_get_what_they_get_from_memory(long_v3: Path, slots: int, speculate: str) -> None:
    expected = answers(Engine(load_model(long_v3), speculate="off"))
    model, source = streamed(long_v3, slots)
    engine = Engine(model, chunk=64, max_batch=3, speculate=speculate, streamed=source)
    assert answers(engine, cancels=True) == expected
    check(source)
    # Again, with what the first round left: pages of prompts, experts in memory, guesses under way.
    assert answers(engine) == expected


def test_a_request_is_told_what_it_took(long_v3: Path) -> None:
    model, source = streamed(long_v3, 20)
    engine = Engine(model, streamed=source)
    scores(model, LONG[:30], 10, 30)  # beside the engine, so no request's
    before = source.counters
    jobs = [engine.submit(*request) for request in REQUESTS]
    while engine.step():
        pass
    all_of_it = source.counters.since(before)
    parts = [job.streamed for job in jobs]
    assert None not in parts
    for name in ("pinned", "cached", "prefetched", "missed"):
        assert sum(getattr(part, name) for part in parts) == getattr(all_of_it, name)
    assert 0 < sum(part.disk_bytes for part in parts) <= all_of_it.read_bytes
    assert all(part.uses > 0 for part in parts)


# ---------------------------------------------------------------------- by a budget


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that counts as of one size, whatever the tests before it left."""
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20))


def nearly_whole(folder: Path) -> Budget:
    """The largest budget that puts experts on disk."""
    budget = open_model(folder).budget
    while budget.slots is None:  # at most twice: widened weights give way first
        budget = open_model(folder, memory=Memory(ram=budget.whole - 1)).budget
    return budget


@pytest.mark.usefixtures("steady")
def test_a_budget_decides_what_is_in_memory_and_not_what_is_said(long_v3: Path) -> None:
    ops, ids = select().ops, np.asarray(LONG[:50])
    whole = open_model(long_v3, ops)
    expected = whole.network.logits(whole.network.forward(ids, whole.network.new_cache()))
    budget = nearly_whole(long_v3)
    kinds = set()
    for ram in (*range(budget.smallest, budget.smallest + 200_000, 60_000), budget.whole):
        loaded = open_model(long_v3, ops, Memory(ram=ram))
        found = loaded.network.logits(loaded.network.forward(ids, loaded.network.new_cache()))
        np.testing.assert_array_equal(bits(found), bits(expected))
        kinds.add(loaded.budget.slots)
    assert len(kinds) == 5
    assert None in kinds
    with pytest.raises(BudgetError):
        open_model(long_v3, ops, Memory(ram=budget.smallest - 1))


@pytest.mark.usefixtures("steady")
def test_pocket_answers_alike_at_every_budget() -> None:
    question = "What is 47 + 38 - 12?"
    resident = araio.load("pocket", ram="8GiB")
    expected = resident.chat(question, max_tokens=40, seed=0)
    assert resident.experts is None
    assert expected.receipt.streamed is None
    budget = nearly_whole(locate("pocket"))
    for share in (0.0, 0.5, 0.95):
        ram = round(budget.smallest + share * (budget.whole - budget.smallest))
        model = araio.load("pocket", ram=ram)
        answer = model.chat(question, max_tokens=40, seed=0)
        assert (answer.reasoning, answer.content) == (expected.reasoning, expected.content)
        assert answer.receipt.streamed is not None
        assert answer.receipt.streamed.uses > 0
        assert answer.receipt.disk_bytes > 0
