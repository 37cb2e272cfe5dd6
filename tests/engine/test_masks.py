"""Requests with masks in the engine: what each gets does not depend on the masks of the others.

The naive loop with one mask for one sequence says what each must get, bit for bit with compiled operations.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from araio.engine.engine import Engine
from araio.engine.generate import generate
from araio.engine.job import Job
from araio.engine.profiles import Profiles
from araio.engine.request import SamplingParams
from araio.engine.tokens import GeneratedToken
from araio.errors import ProfileError, RequestError
from araio.kernels import native
from araio.kernels.ops import PAGE
from araio.kernels.select import select
from araio.nn.mask import ExpertMask
from araio.nn.model import Model
from araio.testing.checkpoints import tiny_config, write_tiny_checkpoint
from araio.testing.profiles import profile_of
from araio.weights.load import load_model

native_only = pytest.mark.native

RNG = np.random.default_rng(5)
BEGINNING = RNG.integers(0, 200, 2 * PAGE + 20).tolist()
PROMPTS = [BEGINNING, [*BEGINNING[: 2 * PAGE], 1, 2], RNG.integers(0, 200, 30).tolist(), [7]]
PARAMS = [
    SamplingParams(max_tokens=9, logprobs=2),
    SamplingParams(max_tokens=12, temperature=1.0, seed=3, logprobs=0),
]
Kept = list[tuple[int, float | None]]
MaskName = str | None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masks") / "tiny"
    write_tiny_checkpoint(path, "v3", max_position_embeddings=1024)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Model]:
    if not native.offer().operations:
        pytest.skip("the compiled kernels are not built")
    from araio.kernels import _native

    before = _native.threads()
    yield load_model(folder, select(threads=1).ops)
    _native.set_threads(before)


def masks_of(model: Model) -> dict[MaskName, ExpertMask | None]:
    """None, two that differ, one that keeps all, and one by layer."""
    config = model.config
    by_layer = {1: range(16), 2: [0, 1, 5, 6, 9, 10, 14, 15]}
    kept = {
        "math": [0, 1, 2, 4, 5, 8, 9, 12, 13],
        "words": [2, 3, 6, 7, 10, 11, 14, 15],
        "all": range(16),
        "late": by_layer,
    }
    masks = {name: ExpertMask(profile_of(config, ids, name=name)) for name, ids in kept.items()}
    return {None: None, **masks}


def kept(tokens: Iterator[GeneratedToken]) -> Kept:
    return [(token.id, token.sampled.logprob) for token in tokens]


def run(engine: Engine) -> None:
    while engine.step():
        pass


def enter(engine: Engine, prompt: list[int], params: SamplingParams, mask: ExpertMask | None) -> Job:
    job = engine.prepare(prompt, params, mask=mask)
    engine.enter(job)
    return job


@native_only
def test_keeping_every_expert_changes_no_bit(model: Model) -> None:
    for prompt, params in zip(PROMPTS, PARAMS * 2, strict=True):
        with_all = kept(generate(model, prompt, params, mask=masks_of(model)["all"]))
        assert with_all == kept(generate(model, prompt, params))
    ids = np.array(BEGINNING)
    one, other = (model.forward(ids, model.new_cache(), mask=mask) for mask in (None, masks_of(model)["all"]))
    np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


@native_only
@pytest.mark.parametrize("speculate", ["off", "on"])
@pytest.mark.parametrize("chunk", [1, 50, 512])
def test_sixteen_requests_of_all_masks_get_what_each_gets_alone(model: Model, chunk: int, speculate) -> None:
    masks = masks_of(model)
    asked = [
        (prompt, PARAMS[(place + turn) % 2], name)
        for turn, prompt in enumerate(PROMPTS)
        for place, name in enumerate([None, "math", "words", "late"])
    ]
    expected = [kept(generate(model, prompt, params, mask=masks[name])) for prompt, params, name in asked]
    assert len({tuple(tokens) for tokens in expected[:4]}) == 4  # the masks do change what is said
    engine = Engine(model, max_batch=16, chunk=chunk, cache_tokens=64 * PAGE, speculate=speculate)
    for _ in range(2):  # the second time what prompts begin with is there
        jobs = []
        for prompt, params, name in asked:
            jobs.append(enter(engine, prompt, params, masks[name]))
            engine.step()
        run(engine)
        assert [kept(iter(job.tokens)) for job in jobs] == expected
    assert engine.free_pages == engine.total_pages
    assert all(job.cached_tokens == 2 * PAGE for job in jobs[:8])
    if speculate == "on":
        assert sum(job.draft_tokens for job in jobs) > 0


@native_only
@pytest.mark.parametrize("first", [None, "math"])
@pytest.mark.parametrize("speculate", ["off", "on"])
def test_what_a_prompt_left_is_for_the_same_mask_only(model: Model, first: MaskName, speculate) -> None:
    """A page that was computed with other experts holds other numbers for the same ids."""
    masks = masks_of(model)
    engine = Engine(model, cache_tokens=64 * PAGE, speculate=speculate)
    enter(engine, BEGINNING, PARAMS[0], masks[first])
    run(engine)
    jobs = {name: enter(engine, BEGINNING, PARAMS[0], masks[name]) for name in (None, "math", "words")}
    run(engine)
    found = {name: job.cached_tokens for name, job in jobs.items()}
    assert found == {name: 2 * PAGE if name == first else 0 for name in jobs}
    for name, job in jobs.items():
        assert kept(iter(job.tokens)) == kept(generate(model, BEGINNING, PARAMS[0], mask=masks[name]))


@native_only
def test_nobody_waits_for_a_prompt_of_another_mask(model: Model) -> None:
    """They would wait for pages that are of no use to them."""
    masks = masks_of(model)
    engine = Engine(model, chunk=16, cache_tokens=64 * PAGE)
    jobs = [enter(engine, BEGINNING, PARAMS[0], masks[name]) for name in (None, "math", "words", "math")]
    engine.step()
    assert [job.cache is not None for job in jobs] == [True, True, True, False]
    run(engine)
    assert [job.cached_tokens for job in jobs] == [0, 0, 0, 2 * PAGE]


@native_only
def test_profiles_that_keep_the_same_share_what_they_leave(model: Model) -> None:
    one, other = (ExpertMask(profile_of(model.config, range(8), name=name)) for name in ("one", "other"))
    engine = Engine(model)
    enter(engine, BEGINNING, PARAMS[0], one)
    run(engine)
    job = enter(engine, BEGINNING, PARAMS[0], other)
    run(engine)
    assert job.cached_tokens == 2 * PAGE


@native_only
@pytest.mark.parametrize("speculate", ["off", "on"])
def test_no_token_is_given_to_an_expert_that_is_hidden(model: Model, speculate) -> None:
    masks = masks_of(model)
    engine = Engine(model, cache_tokens=64 * PAGE, speculate=speculate)
    jobs = [
        engine.prepare(BEGINNING, PARAMS[0], watches="all", mask=masks[name])
        for name in (None, "math", "words")
    ]
    for job in jobs:
        engine.enter(job)
    run(engine)
    for job in jobs:
        assert job.routes is not None
        ids = np.concatenate([routes.ids for routes in job.routes])  # (T, M, K)
        assert len(ids) == len(BEGINNING) + len(job.tokens) - 1
        for place, layer in enumerate(model.config.moe_layers):
            hidden = np.zeros(16, bool) if job.mask is None else ~job.mask.kept(layer)
            assert not hidden[ids[:, place]].any()


# ---------------------------------------------------------------------- by name


def test_a_request_is_masked_by_the_name_of_a_profile() -> None:
    config = tiny_config("v3")
    profiles = Profiles(config, lambda: "f" * 64)
    math = profile_of(config, range(8))
    profiles.add(math)
    assert profiles.mask(None) is None
    assert profiles.mask("math").id == profiles.mask(math).id == math.id
    assert dict(profiles.known) == {"math": math}
    profiles.use_by_default("math")
    assert profiles.mask(None).id == math.id


def test_what_cannot_be_asked_for_is_told() -> None:
    config = tiny_config("v3")
    profiles = Profiles(config, lambda: "f" * 64)
    with pytest.raises(RequestError, match="no profile 'math'; this model was given none") as refusal:
        profiles.mask("math")
    assert refusal.value.param == "profile"
    profiles.add(profile_of(config, range(8)))
    profiles.add(profile_of(config, range(8), name="words"))
    with pytest.raises(RequestError, match="no profile 'code'; this model was given math, words"):
        profiles.mask("code")
    with pytest.raises(ProfileError, match="two profiles are named 'math'"):
        profiles.add(profile_of(config, range(9)))
    with pytest.raises(ProfileError, match="fingerprint"):
        profiles.mask(profile_of(config, range(8), fingerprint="0" * 64))
    with pytest.raises(ProfileError, match=r"layer 1 keeps too few experts: groups \[1, 2, 3\]"):
        profiles.add(profile_of(config, [0, 1, 2, 3, 4, 8, 12], name="few"))


def test_a_mask_beside_an_approximation_is_refused() -> None:
    config = tiny_config("v3")
    profiles = Profiles(config, lambda: "f" * 64, approximate="top-2")
    profiles.add(profile_of(config, range(8)))
    assert profiles.mask(None) is None
    with pytest.raises(RequestError, match="--approximate top-2") as refusal:
        profiles.mask("math")
    assert refusal.value.param == "profile"
