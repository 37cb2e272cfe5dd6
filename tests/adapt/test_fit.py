"""From prompts to a profile: what is seen, kept on disk, cut to size, and warned of."""

import re
from dataclasses import replace

import numpy as np
import pytest

from araio.adapt.calibration import Calibration, calibrate
from araio.adapt.fit import check_target, fit
from araio.adapt.scores import score
from araio.adapt.select import Target
from araio.adapt.statistics import SUMS, observe
from araio.errors import ProfileError
from araio.eval.prompts import Prompt, read_prompts
from araio.expert_profile import ExpertProfile


@pytest.fixture(scope="module")
def calibration(pocket):
    return calibrate(pocket, read_prompts(["task:chain", "task:letters"], n=3))


def test_prompt_reasoning_and_answer_are_looked_at(pocket, calibration):
    assert list(calibration.sources) == ["task:chain", "task:letters"]
    prompts = read_prompts(["task:chain"], n=3)
    answers = [pocket.chat(p.messages, temperature=0, repetition_penalty=1) for p in prompts]
    seen = calibration.sources["task:chain"]
    assert seen.sequences == 3
    assert seen.tokens == sum(answer.usage["total_tokens"] - 1 for answer in answers)


def test_prompts_alone_can_be_looked_at(pocket):
    prompts = read_prompts(["task:chain"], n=2)
    seen = calibrate(pocket, prompts, generate=False)
    jobs = [pocket.prepare(prompt.messages).job.prompt for prompt in prompts]
    assert seen.whole.tokens == sum(map(len, jobs))
    assert seen.habits is None  # nothing was decoded
    expected = observe(pocket, np.append(jobs[0], 0)) + observe(pocket, np.append(jobs[1], 0))
    main = expected.rows(pocket.config.moe_layers)
    np.testing.assert_array_equal(seen.whole.rows(main.layers).turned, main.turned)
    fitted = fit(seen, pocket.config, Target(keep=0.75), name="prompts")
    assert "only prompts were looked at" in fitted.warnings[0]


def test_what_a_file_says_of_domains_makes_sources_of_them(tiny):
    asked = ({"role": "user", "content": "hello"},)
    prompts = [Prompt(asked, domain, "mine.jsonl") for domain in (None, "law", "law", "poems")]
    seen = calibrate(tiny, prompts, max_tokens=5)
    counts = {name: part.sequences for name, part in seen.sources.items()}
    assert counts == {"mine.jsonl": 1, "mine.jsonl: law": 2, "mine.jsonl: poems": 1}
    assert seen.cut_off == 4
    assert "4 of 4 answers were cut off" in fit(seen, tiny.config, Target(keep=0.5), name="x").warnings[0]


def test_a_file_keeps_all_of_it(calibration, tmp_path):
    calibration.save(tmp_path / "seen.safetensors")
    read = Calibration.from_file(tmp_path / "seen.safetensors")
    assert set(read.habits) == {"rates", "spread", "weights"}
    for name, array in calibration.habits.items():
        np.testing.assert_array_equal(read.habits[name], array)
    assert (read.model, read.generated, read.cut_off) == (
        calibration.model,
        calibration.generated,
        calibration.cut_off,
    )
    assert list(read.sources) == list(calibration.sources)
    for name, seen in calibration.sources.items():
        found = read.sources[name]
        assert (found.layers, found.sequences, found.tokens) == (seen.layers, seen.sequences, seen.tokens)
        for field in SUMS:
            np.testing.assert_array_equal(getattr(found, field), getattr(seen, field))
    assert [path.name for path in tmp_path.iterdir()] == ["seen.safetensors"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_another_file_is_no_calibration(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=r"other\.safetensors"):
        Calibration.from_file(path)


def test_a_cut_off_calibration_is_told(calibration, tmp_path):
    path = tmp_path / "seen.safetensors"
    calibration.save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ProfileError, match="truncated"):
        Calibration.from_file(path)


def test_a_calibration_of_what_are_no_sums_is_refused(calibration, tmp_path):
    name, seen = next(iter(calibration.sources.items()))
    path = tmp_path / "seen.safetensors"
    replace(calibration, sources={name: replace(seen, turned=seen.turned * np.nan)}).save(path)
    with pytest.raises(ProfileError, match=r"seen\.safetensors.*sums of 'task:chain' hold what no sum is"):
        Calibration.from_file(path)


def test_a_file_that_cannot_be_written_is_told(calibration, tmp_path):
    with pytest.raises(ProfileError, match="cannot be written"):
        calibration.save(tmp_path / "nowhere" / "seen.safetensors")


def test_the_profile_says_how_it_came_about(pocket, calibration, tmp_path):
    profile = fit(calibration, pocket.config, Target(keep=0.75), name="both").profile
    profile.save(tmp_path / "both.json")
    read = ExpertProfile.from_file(tmp_path / "both.json")
    assert read == profile
    assert read.method == {"score": "easy", "keep": 0.75, "protect": ["super"], "equal_groups": False}
    assert list(read.calibration["sources"]) == ["task:chain", "task:letters"]
    assert read.calibration["sequences"] == 6
    assert read.calibration["generated"] is True
    assert read.evaluation is None
    for layer in pocket.config.moe_layers:
        assert sum(read.scores[layer]) == pytest.approx(1, abs=1e-6)


def test_sources_count_alike(pocket, calibration):
    profile = fit(calibration, pocket.config, Target(keep=0.75), name="both").profile
    layers = tuple(pocket.config.moe_layers)
    parts = [score(seen.rows(layers), "easy") for seen in calibration.sources.values()]
    expected = (parts[0] + parts[1]) / 2
    np.testing.assert_allclose([profile.scores[layer] for layer in layers], expected, atol=1e-8)


@pytest.mark.parametrize("target", [Target(keep=0.5), Target(coverage=0.9)])
def test_equal_groups_make_a_profile_that_can_be_exported(pocket, calibration, target):
    fitted = fit(calibration, pocket.config, target, name="cut", equal_groups=True)
    assert fitted.profile.is_uniform
    assert fitted.profile.mtp is not None
    assert len(fitted.profile.mtp) == len(fitted.profile.keep[1])


def test_unequal_groups_follow_the_scores(pocket, calibration):
    profile = fit(calibration, pocket.config, Target(coverage=0.9), name="cut").profile
    assert not profile.is_uniform
    for layer, kept in profile.keep.items():
        assert sum(profile.scores[layer][expert] for expert in kept) >= 0.9 - 1e-6


def test_few_hits_are_warned_of(pocket, calibration):
    more = calibration.sources["task:chain"] + calibration.sources["task:chain"]
    calibration = replace(calibration, sources={"task:chain": more})
    warnings = fit(calibration, pocket.config, Target(keep=1.0), name="all").warnings
    assert len(warnings) == 1
    hits = calibration.whole.rows(tuple(pocket.config.moe_layers)).chosen
    assert f"{(hits < 50).sum()} of 160 kept experts were chosen for fewer than 50 of" in warnings[0]


def test_what_is_unknown_is_refused(pocket, calibration):
    with pytest.raises(ProfileError, match="no score 'best'"):
        fit(calibration, pocket.config, Target(keep=0.5), name="x", score_name="best")
    with pytest.raises(ProfileError, match="nothing is known to protect as 'all'; expected super, opening"):
        fit(calibration, pocket.config, Target(keep=0.5), name="x", protect=["all"])


def test_what_was_seen_of_another_model_is_refused(calibration, tiny):
    with pytest.raises(ProfileError, match="what was seen is of pocket, whose n_routed_experts = 32"):
        fit(calibration, tiny.config, Target(keep=0.5), name="x", equal_groups=True)


def test_a_model_without_experts_has_nothing_to_choose_from(tmp_path):
    import araio
    from araio.testing.checkpoints import write_tiny_checkpoint

    write_tiny_checkpoint(tmp_path, "v3", n_routed_experts=0, num_nextn_predict_layers=0)
    with pytest.raises(ProfileError, match="has no routed experts"):
        calibrate(araio.load(tmp_path), read_prompts(["task:chain"], n=1))


def test_general_text_has_its_say_and_no_more(pocket):
    own, other = (read_prompts([f"task:{name}"], n=2) for name in ("chain", "letters"))
    seen = calibrate(pocket, own, general=other, max_tokens=60)
    assert (list(seen.sources), list(seen.general)) == (["task:chain"], ["task:letters"])
    apart = [calibrate(pocket, asked, max_tokens=60) for asked in (own, other)]
    scores = [score(one.whole.rows(pocket.config.moe_layers), "easy") for one in apart]
    fitted = fit(seen, pocket.config, Target(keep=0.5), name="chain", general_share=0.25).profile
    for layer, *rows in zip(pocket.config.moe_layers, *scores, strict=True):
        expected = 0.75 * rows[0] + 0.25 * rows[1]
        np.testing.assert_allclose(fitted.scores[layer], expected, atol=1e-8)
    assert fitted.method["general"] == ["task:letters"]
    without = fit(seen, pocket.config, Target(keep=0.5), name="chain", general_share=0.0).profile
    assert without.keep == fit(apart[0], pocket.config, Target(keep=0.5), name="chain").profile.keep


def test_the_foremost_experts_of_a_domain_that_is_spared_stay(pocket, tmp_path):
    own, other = (read_prompts([f"task:{name}"], n=2) for name in ("chain", "letters"))
    seen = calibrate(pocket, own, spared=other, max_tokens=60)
    seen.save(tmp_path / "seen.safetensors")
    seen = Calibration.from_file(tmp_path / "seen.safetensors")
    scores = score(seen.spared["task:letters"].rows(pocket.config.moe_layers), "easy")
    profile = fit(seen, pocket.config, Target(keep=0.25), name="chain", protect=()).profile
    for row, kept in zip(scores, profile.keep.values(), strict=True):
        foremost = np.argsort(-row)
        held = np.cumsum(row[foremost])
        assert set(foremost[: int(np.argmax(held >= 0.1)) + 1].tolist()) <= set(kept)
    assert profile.method["spared_share"] == 0.1


def test_few_tokens_are_told_as_few_tokens(tiny):
    prompts = [Prompt(({"role": "user", "content": "hello"},), None, "mine.jsonl")]
    fitted = fit(calibrate(tiny, prompts, max_tokens=5), tiny.config, Target(keep=0.5), name="x")
    assert any(
        re.match(r"only \d+ tokens were looked at, \d for each expert", line) for line in fitted.warnings
    )
    assert not any("kept experts were chosen" in line for line in fitted.warnings)


@pytest.mark.parametrize(
    ("target", "name", "general", "message"),
    [
        (Target(keep=0.5), "a name", 0.1, "profile's name"),
        (Target(keep=0.5), "name", 1.0, "share of general text is 1.0"),
        (Target(keep=0.05), "name", 0.1, "keep = 0.05 leaves"),
    ],
)
def test_what_cannot_be_fitted_is_told_before_anything_runs(pocket, target, name, general, message):
    with pytest.raises(ProfileError, match=message):
        check_target(target, pocket.config, name, general, equal_groups=False)
