"""What an evaluation holds, and by which rule a profile is accepted."""

from dataclasses import replace

import pytest

import araio
from araio.adapt.behaviour import Accuracy
from araio.adapt.calibration import calibrate
from araio.adapt.evaluate import evaluate, steps_of
from araio.adapt.fit import fit
from araio.adapt.select import Target
from araio.errors import ProfileError
from araio.eval.prompts import Prompt, read_prompts


@pytest.fixture(scope="module")
def calibration(pocket):
    return calibrate(pocket, read_prompts(["task:chain"], n=8))


@pytest.fixture(scope="module")
def prompts():
    return read_prompts(["task:chain"], n=5, split="test")


def evaluated(model, calibration, prompts, keep, others=(), **options):
    profile = fit(calibration, model.config, Target(keep=keep), name="some").profile
    return evaluate(model, profile, prompts, others, max_tokens=200, measures_savings=False, **options)


@pytest.fixture(scope="module")
def measured(pocket, calibration, prompts):
    others = [*read_prompts(["task:letters"], n=2, split="test"), Prompt(prompts[0].messages, None, "x.txt")]
    return evaluated(pocket, calibration, prompts, 0.5, others)


def test_its_own_and_other_domains_are_told_apart(measured):
    assert measured.own.behaviour.prompts == 5
    assert {name: cost.behaviour.prompts for name, cost in measured.others.items()} == {
        "language": 2,
        "x.txt": 1,
    }
    assert measured.others["x.txt"].behaviour.accuracy is None


def test_the_kept_experts_alone_answer(measured):
    assert measured.own.drift.kl_mean > 0
    assert min(measured.own.drift.whole_perplexity, measured.own.drift.perplexity) >= 1


def test_a_profile_that_keeps_all_loses_nothing_and_is_accepted(pocket, calibration, prompts):
    found = evaluated(pocket, calibration, prompts, 1.0)
    assert found.own.drift.kl_mean == 0
    assert found.own.behaviour.same == 1
    assert found.own.behaviour.length_ratio == 1
    assert found.objections == []
    assert found.to_json()["accepted"] is False  # so few answers prove nothing
    assert "leave room for a loss of" in found.to_json()["doubt"]


def test_every_step_is_told(pocket, calibration, prompts):
    told = []
    evaluated(pocket, calibration, prompts[:2], 0.75, prompts[2:3], on_step=lambda: told.append(1))
    assert len(told) == steps_of(prompts[:2], prompts[2:3], measures_savings=False) == 9
    assert steps_of(prompts[:2], measures_savings=True) == 10


def test_a_profile_of_another_model_is_refused(tiny, pocket, calibration, prompts):
    profile = fit(calibration, pocket.config, Target(keep=0.5), name="some").profile
    with pytest.raises(ProfileError, match="was made for pocket"):
        evaluate(tiny, profile, prompts, max_tokens=5)


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({"accuracy": Accuracy(100, 90, 95, -0.05, -0.09, -0.01)}, "accuracy falls by 5.0% of 100 answers"),
        ({"accuracy": Accuracy(100, 94, 95, -0.01, -0.02, -0.005)}, None),  # little
        ({"length_ratio": 1.3}, "answers are 1.30 times as long"),
        ({"length_ratio": 1.1}, None),
        ({"looping": (0.05, 0.01)}, "5.0% of answers loop, 1.0% without the profile"),
        ({"cut_off": (0.05, 0.04)}, None),
        ({"cut_off": (0.5, 0.04)}, "50.0% of answers are cut off, 4.0% without the profile"),
        ({"refused": (0.97, 0.98)}, None),
        ({"refused": (0.5, 1.0)}, "50.0% of what should be is refused, 100.0% without it"),
    ],
)
def test_what_speaks_against_a_profile(measured, changes, objection):
    alike = Accuracy(300, 285, 285, 0.0, -0.01, 0.01)
    clean = {"accuracy": alike, "length_ratio": 1.0, "looping": (0.0, 0.0), "cut_off": (0.0, 0.0)}
    behaviour = replace(measured.own.behaviour, **(clean | changes))
    found = replace(measured, own=replace(measured.own, behaviour=behaviour))
    assert found.objections == ([] if objection is None else [objection])
    assert found.to_json()["accepted"] is (objection is None)


@pytest.mark.parametrize(
    ("accuracy", "doubt"),
    [
        (Accuracy(100, 90, 95, -0.05, -0.11, 0.01), "100 answers leave room for a loss of 11.0%; ask more"),
        (None, "no prompt has a known answer"),
    ],
)
def test_what_would_not_show_is_not_accepted(measured, accuracy, doubt):
    clean = {"length_ratio": 1.0, "looping": (0.0, 0.0), "cut_off": (0.0, 0.0)}
    behaviour = replace(measured.own.behaviour, **clean, accuracy=accuracy)
    found = replace(measured, own=replace(measured.own, behaviour=behaviour))
    assert found.objections == []
    assert found.to_json()["accepted"] is False
    assert found.doubt.startswith(doubt)


def test_refusals_are_counted_where_they_are_expected(tiny):
    asked = ({"role": "user", "content": "hello"},)
    prompts = [Prompt(asked, None, "x.jsonl", refuse=refuse) for refuse in (True, True, False)]
    seen = calibrate(tiny, prompts[:1], max_tokens=5)
    profile = fit(seen, tiny.config, Target(keep=0.5), name="some").profile
    found = evaluate(tiny, profile, prompts, max_tokens=5, measures_savings=False)
    assert found.own.to_json()["refused"] == {"kept": 0.0, "whole": 0.0}  # it says nothing that is a sentence
    found = evaluate(tiny, profile, prompts[2:], max_tokens=5, measures_savings=False)
    assert "refused" not in found.own.to_json()


def test_a_model_that_has_a_mask_is_no_whole_to_compare_with(calibration, prompts, pocket):
    profile = fit(calibration, pocket.config, Target(keep=0.75), name="some").profile
    masked = araio.load("pocket", profile=profile, profile_mode="mask")
    with pytest.raises(ProfileError, match=r"pocket \(mask some\) does not answer as the whole model does"):
        evaluate(masked, profile, prompts, max_tokens=20)
    with pytest.raises(ProfileError, match="load it without a mask"):
        calibrate(masked, prompts)
