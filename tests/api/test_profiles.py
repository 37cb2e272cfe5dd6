"""Profiles from `araio.load` on: pinned without a trace in the text, or as a mask that every place names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import araio
from araio.adapt.calibration import calibrate
from araio.adapt.fit import fit
from araio.adapt.select import Target
from araio.errors import BudgetError, ProfileError, RequestError
from araio.eval.prompts import Prompt
from araio.expert_profile import ExpertProfile
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.testing.profiles import profile_of
from araio.weights import load
from araio.weights.machine_memory import MachineMemory

MIB = 1 << 20
KEEP = [0, 1, 2, 4, 5, 8, 9, 12, 13]
ASK = {"seed": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profiles") / "tiny"
    write_tiny_checkpoint(path, "v3")
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> araio.Model:
    return araio.load(folder)


@pytest.fixture(scope="module")
def profile(model: araio.Model) -> ExpertProfile:
    return profile_of(model.config, KEEP, model.fingerprint)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experts of 0.4 MB, 96 in three layers: enough that memory can hold some of them only."""
    path = tmp_path_factory.mktemp("profiles") / "large"
    sizes = {"hidden_size": 256, "moe_intermediate_size": 256, "n_routed_experts": 32, "num_hidden_layers": 4}
    write_tiny_checkpoint(path, "v3", **sizes, num_nextn_predict_layers=0)
    return path


def test_a_pinned_profile_changes_no_text_where_all_is_in_memory(folder, model, profile) -> None:
    pinned = araio.load(folder, profile=profile)
    answer = pinned.chat("hi", **ASK)
    assert answer.content == model.chat("hi", **ASK).content
    assert (answer.receipt.mask, pinned.label) == (None, pinned.name)


def test_a_mask_answers_every_request_and_is_named(folder, model, profile, tmp_path) -> None:
    profile.save(tmp_path / "math.json")
    masked = araio.load(folder, profile=tmp_path / "math.json", profile_mode="mask")
    answer = masked.chat("hi", **ASK)
    assert masked.label == f"{folder} (mask math)"
    assert answer.receipt.mask == answer.receipt.to_json()["mask"] == "math"
    assert answer.content == model.chat("hi", profile=profile, **ASK).content
    ids = list(range(40))
    np.testing.assert_array_equal(masked.logits(ids), model.logits(ids, profile=profile))
    assert not np.array_equal(masked.logits(ids), model.logits(ids))
    chosen, _ = masked.route(ids)
    assert set(np.unique(chosen)) <= set(KEEP)
    assert set(np.unique(model.route(ids, profile=profile)[0])) <= set(KEEP)


def test_a_request_asks_by_name_and_another_does_not(folder, model, profile) -> None:
    words = profile_of(model.config, [2, 3, 6, 7, 10, 11, 14, 15], model.fingerprint, name="words")
    both = araio.load(folder, profile=[profile, words])
    assert list(both.profiles.known) == ["math", "words"]
    for each in (profile, words):
        answer = both.chat("hi", profile=each.name, **ASK)
        assert answer.receipt.mask == each.name
        assert answer.content == model.chat("hi", profile=each, **ASK).content
        text = both.complete("Once", profile=each.name, **ASK)
        assert text.content == model.complete("Once", profile=each, **ASK).content
    assert both.chat("hi", **ASK).receipt.mask is None
    with pytest.raises(RequestError, match="no profile 'code'; this model was given math, words") as refusal:
        both.chat("hi", profile="code")
    assert refusal.value.param == "profile"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"profile": "none.json"}, ProfileError, r"none.json: cannot be read"),
        ({"profile_mode": "mask"}, RequestError, "'mask' without a profile"),
        ({"profile_mode": "export"}, RequestError, "profile_mode is 'export'; expected pin or mask"),
    ],
)
def test_what_cannot_be_loaded_is_told(folder, options, error, words) -> None:
    with pytest.raises(error, match=words):
        araio.load(folder, **options)


def test_profiles_that_do_not_fit_the_model_are_refused(folder, model, profile) -> None:
    with pytest.raises(ProfileError, match="fingerprint"):
        araio.load(folder, profile=profile_of(model.config, KEEP))
    with pytest.raises(ProfileError, match="keeps too few experts: groups"):
        araio.load(folder, profile=profile_of(model.config, [0, 1, 2, 3, 4], model.fingerprint))
    with pytest.raises(RequestError, match="with --approximate top-2: both change"):
        araio.load(folder, profile=profile, profile_mode="mask", approximate="top-2")
    with pytest.raises(RequestError, match="both pins and profile 'math'"):
        araio.load(folder, profile=profile, pins={1: [0]})
    approximate = araio.load(folder, profile=profile, approximate="top-2")  # pinned, which changes nothing
    with pytest.raises(RequestError, match="--approximate top-2"):
        approximate.chat("hi", profile="math")


@pytest.mark.usefixtures("small_process")
def test_pinned_experts_stay_and_the_text_is_the_same(large, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = araio.load(large)
    profile = profile_of(whole.config, range(0, 32, 4), whole.fingerprint)  # in memory as a quarter
    budget = {"cache_tokens": 512, "io": "buffered"}
    plain = araio.load(large, ram=_streaming_ram(large, budget), **budget)
    pinned = araio.load(large, ram=_streaming_ram(large, budget), profile=profile, **budget)
    for question in ("hi", "and now?", "hi"):
        expected = whole.chat(question, **ASK)
        assert plain.chat(question, **ASK).content == expected.content
        assert pinned.chat(question, **ASK).content == expected.content
        assert pinned.chat(question, profile="math", **ASK).content == (
            whole.chat(question, profile=profile, **ASK).content
        )
    assert pinned.experts.counters.pinned > 0
    assert plain.experts.counters.pinned == 0


@pytest.mark.usefixtures("small_process")
def test_walls_need_room_and_a_profile_runs_in_any_budget_that_the_model_runs_in(
    large, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = araio.load(large)
    profile = profile_of(whole.config, range(28), whole.fingerprint)
    budget = {"cache_tokens": 512, "io": "buffered"}
    ram = _streaming_ram(large, budget)
    with pytest.raises(
        BudgetError, match=r"84 experts are to stay in memory, and .* have room for"
    ) as refusal:
        araio.load(large, ram=ram, pins=profile.keep, **budget)
    assert "MiB are enough" in str(refusal.value)
    pinned = araio.load(large, ram=ram, profile=profile, **budget)
    assert pinned.chat("hi", **ASK).content == whole.chat("hi", **ASK).content


@pytest.mark.usefixtures("small_process")
def test_a_run_begins_with_what_the_profile_learned(large, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = araio.load(large)
    prompts = [Prompt(({"role": "user", "content": text},), None, "mine") for text in ("hi", "and now?")]
    seen = calibrate(whole, prompts, max_tokens=20)
    profile = fit(seen, whole.config, Target(keep=0.5), name="math").profile
    budget = {"cache_tokens": 512, "io": "buffered"}
    pinned = araio.load(large, ram=_streaming_ram(large, budget), profile=profile, **budget)
    learned = pinned.experts.policy.habits()
    for name, array in profile.habits.items():
        np.testing.assert_array_equal(learned[name], array)
    assert pinned.experts.counters.reads > 0  # what was worth most is there before anybody asks
    assert pinned.chat("hi", **ASK).content == whole.chat("hi", **ASK).content
    broken = replace(profile, habits={"rates": np.zeros((3, 5), np.float32)})
    with pytest.raises(ProfileError, match=r"of habits has \['rates'\]; expected \['rates', 'spread'"):
        araio.load(large, ram=_streaming_ram(large, budget), profile=broken, **budget)


@pytest.fixture
def small_process(monkeypatch):
    """What the process has taken for tests before does not count."""
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 0))


def _streaming_ram(folder: Path, budget: dict[str, object]) -> int:
    """A budget in which about half of the experts have a place."""
    with pytest.raises(BudgetError) as refusal:
        araio.load(folder, ram=MIB, **budget)
    least = float(str(refusal.value).split(": ")[1].split(" MiB are the least")[0])
    return int(least * MIB) + 24 * MIB
