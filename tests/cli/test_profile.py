"""`araio profile`: from prompts to a profile, what it shows, what it costs, and what it exports."""

from __future__ import annotations

import json
import re

import pytest

from araio.cli.main import main
from araio.expert_profile import ExpertProfile
from araio.testing.checkpoints import write_tiny_checkpoint


@pytest.fixture
def call(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")

    def run(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Profiles of pocket: what was seen, three quarters of it and half of it."""
    folder = tmp_path_factory.mktemp("profiles")
    for arguments in (
        ["--prompts", "task:chain", "--n", "6", "--keep", "0.75", "-o", folder / "math.json"],
        ["--prompts", "task:letters", "--n", "6", "--keep", "0.5", "-o", folder / "language.json"],
    ):
        seen = ["--equal-groups", "--save-statistics", folder / "seen.safetensors"]
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in ["profile", "fit", "pocket", *arguments, *seen]])
        assert not caught.value.code
    return folder


def test_what_cannot_be_kept_is_told_before_the_model_runs(call, tmp_path):
    seen = tmp_path / "seen.safetensors"
    asked = ["--prompts", "task:chain", "--n", 1, "--max-tokens", 5, "--save-statistics", seen]
    code, _, err = call("profile", "fit", "pocket", *asked, "--keep", 0.01, "-o", tmp_path / "x.json")
    assert code != 0
    assert "keep = 0.01 leaves 1 of 32 experts" in err
    assert list(tmp_path.iterdir()) == []


def test_what_was_seen_is_cut_again(call, tmp_path):
    seen = tmp_path / "seen.safetensors"
    asked = ["--prompts", "task:chain", "--n", 1, "--max-tokens", 5, "--save-statistics", seen]
    asked += ["--general", "task:letters", "--spare", "task:order"]
    code, _, err = call("profile", "fit", "pocket", *asked, "--keep", 0.5, "-o", tmp_path / "x.json")
    assert code == 0, err
    code, out, err = call(
        "profile", "fit", "pocket", "--statistics", seen, "--keep", 0.75, "-o", tmp_path / "x.json", "--json"
    )
    assert code == 0, err
    document = json.loads(out)
    assert (document["method"]["general"], document["method"]["spared"]) == (["task:letters"], ["task:order"])
    assert "habits" not in document
    code, _, err = call(
        *("profile", "fit", "pocket", "--statistics", seen, "--general", "task:order", "--keep", 0.75),
        *("-o", tmp_path / "x.json"),
    )
    assert code == 2
    assert "--statistics has them already" in err


def test_fit_says_what_it_keeps_and_what_to_do_next(call, tmp_path):
    target = tmp_path / "math.json"
    code, out, err = call(
        "profile", "fit", "pocket", "--prompts", "task:chain", "--n", 4, "--keep", 0.75, "-o", target
    )
    assert (code, out) == (0, "")
    assert re.search(r"answering and looking: .* of 8", err)
    assert "note: " in err
    assert "profile 'math' keeps 24 of 32 experts in each of 5 layers, which hold 9" in err
    assert f"next: araio profile eval pocket {target} --prompts" in err
    assert not ExpertProfile.from_file(target).is_uniform


def test_fit_json_is_the_profile_without_its_scores(call, fitted, tmp_path):
    code, out, _ = call(
        *("profile", "fit", "pocket", "--statistics", fitted / "seen.safetensors", "--json"),
        *("--coverage", 0.9, "--score", "reap", "--protect", "none"),
        *("--name", "words", "-o", tmp_path / "x.json"),
    )
    document = json.loads(out)
    assert code == 0
    assert document["name"] == "words"
    assert document["method"] == {"score": "reap", "coverage": 0.9, "protect": [], "equal_groups": False}
    assert list(document["calibration"]["sources"]) == ["task:letters"]
    assert min(document["held"].values()) >= 0.9 - 1e-6
    assert document["id"] == ExpertProfile.from_file(tmp_path / "x.json").id
    assert "scores" not in document
    assert document["warnings"]


def test_what_was_seen_can_be_cut_again_without_running(call, fitted, tmp_path):
    again = tmp_path / "again.json"
    call(
        *("profile", "fit", "pocket", "--statistics", fitted / "seen.safetensors"),
        *("--keep", 0.5, "--equal-groups", "--name", "language", "-o", again),
    )
    assert ExpertProfile.from_file(again) == ExpertProfile.from_file(fitted / "language.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", 0.5], "say what to fit to by one of --prompts and --statistics"),
        (["--prompts", "task:chain"], "by one of keep and coverage"),
        (["--prompts", "task:chain", "--keep", 0.5, "--coverage", 0.9], "by one of keep and coverage"),
        (["--prompts", "task:chain", "--keep", 1.5], "keep is 1.5; expected a share above 0 and at most 1"),
        (["--prompts", "task:chains", "--keep", 0.5], "no task 'chains'; did you mean chain?"),
        (["--statistics", "nowhere", "--keep", 0.5], "nowhere: cannot be opened"),
        (["--prompts", "task:chain", "--keep", 0.5, "--name", "a b"], "expected up to 64 letters"),
    ],
)
def test_mistakes_of_fit_are_one_line(call, tmp_path, options, message):
    code, out, err = call("profile", "fit", "pocket", *options, "--n", 1, "-o", tmp_path / "x.json")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--score", "easiest"], "no score 'easiest'; expected one of easy, reap"),
        (["--protect", "super,sinks"], "nothing is known to protect as 'sinks'"),
        (["--out", "missing/x.json"], "--out missing/x.json: there is no folder missing"),
        (["--out", "."], "--out .: is a folder; expected the name of a file"),
        (
            ["--save-statistics", "missing/x.safetensors"],
            "--save-statistics missing/x.safetensors: there is no",
        ),
    ],
)
def test_what_can_be_told_is_told_before_the_model_runs(call, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    where = [] if "--out" in options else ["--out", "x.json"]
    # Of a model that is not there: whatever looks for it first would say so instead.
    code, _, err = call(
        "profile", "fit", "nobody", "--prompts", "task:chain", "--keep", 0.5, *where, *options
    )
    assert code == 2
    assert err.startswith("error: ")
    assert message in err


def test_statistics_of_another_model_are_refused(call, fitted, tmp_path):
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    code, _, err = call(
        *("profile", "fit", tmp_path / "tiny", "--statistics", fitted / "seen.safetensors"),
        *("--keep", 0.5, "-o", tmp_path / "x.json"),
    )
    assert code == 2
    assert "what was seen is of pocket" in err
    assert not (tmp_path / "x.json").exists()


def test_show_is_a_table_by_layer(call, fitted):
    code, out, err = call("profile", "show", fitted / "math.json", fitted / "language.json")
    assert (code, err) == (0, "")
    assert "math, of pocket, id " in out
    assert "Jaccard with language" in out
    assert re.search(r"│ +1 │ +24 │ 6 6 6 6 +│ +9\d\.\d% │ +0\.\d\d │", out)
    assert "score easy, keep 0.75" in out
    assert "sources task:chain=" in out
    assert "can be exported; 24 experts of the prediction module" in out
    assert "not measured yet" in out


def test_show_json_has_the_overlap(call, fitted):
    _, out, _ = call("profile", "show", fitted / "math.json", fitted / "language.json", "--json")
    document = json.loads(out)
    ours, theirs = (set(ExpertProfile.from_file(fitted / n).keep[3]) for n in ("math.json", "language.json"))
    assert document["jaccard"]["3"] == len(ours & theirs) / len(ours | theirs)
    assert document["other"]["name"] == "language"
    assert document["experts"] == 120
    _, alone, _ = call("profile", "show", fitted / "math.json", "--json")
    assert json.loads(alone)["habits"]["rates"] == [5, 32]  # shapes; the numbers are the file's
    assert "jaccard" not in json.loads(alone)


def test_profiles_of_two_models_are_not_compared(call, fitted, tmp_path):
    document = json.loads((fitted / "math.json").read_text())
    document["model"]["fingerprint"] = "0" * 64
    (tmp_path / "foreign.json").write_text(json.dumps(document))
    code, _, err = call("profile", "show", fitted / "math.json", tmp_path / "foreign.json")
    assert code == 2
    assert "only profiles of one model can be compared" in err


def test_export_says_what_became_of_it(call, fitted, tmp_path):
    code, out, err = call("profile", "export", "pocket", fitted / "math.json", tmp_path / "cut")
    assert (code, out) == (0, "")
    assert re.search(r"24 of 32 experts, with its prediction module; \d+\.\d MB became \d+\.\d MB in ", err)
    code, out, _ = call("profile", "export", "pocket", fitted / "math.json", tmp_path / "again", "--json")
    document = json.loads(out)
    assert document["folder"] == str(tmp_path / "again")
    assert (document["experts"], document["source_experts"], document["has_mtp"]) == (24, 32, True)
    assert document["bytes"] < document["source_bytes"]


def test_export_does_not_write_over_a_folder(call, fitted, tmp_path):
    code, _, err = call("profile", "export", "pocket", fitted / "math.json", tmp_path)
    assert code == 2
    assert "exists already" in err


def test_eval_shows_costs_and_savings_and_keeps_them(call, fitted, tmp_path):
    profile = tmp_path / "math.json"
    profile.write_bytes((fitted / "math.json").read_bytes())
    asked = ["--prompts", "task:chain", "--other", "task:letters", "--n", 4, "--max-tokens", 300]
    code, out, err = call("profile", "eval", "pocket", profile, *asked, "--save")
    assert code == 0
    assert "answering: " in err
    for name in ("its own", "language", "accuracy", "with all experts", "mean KL", "perplexity", "in a loop"):
        assert name in out
    assert "exported: " in out
    assert re.search(r"  pinned    \d+\.\d% in memory, .* a token from disk", out)
    assert "NOT the same text" not in out
    evaluation = ExpertProfile.from_file(profile).evaluation
    assert evaluation["profile"] == ExpertProfile.from_file(fitted / "math.json").id
    assert evaluation["own"]["prompts"] == 4
    assert evaluation["own"]["accuracy"]["n"] == 4
    assert list(evaluation["others"]) == ["language"]
    assert evaluation["savings"]["pinned"]["is_same_text"] is True
    _, shown, _ = call("profile", "show", profile)
    assert "measured; --json shows it" in shown


def test_eval_json_without_savings(call, fitted):
    before = (fitted / "math.json").read_bytes()
    code, out, _ = call(
        *("profile", "eval", "pocket", fitted / "math.json", "--prompts", "task:chain", "--n", 2),
        *("--max-tokens", 200, "--no-savings", "--json"),
    )
    document = json.loads(out)
    assert code == 0
    assert document["savings"] is None
    assert set(document["own"]["drift"]) >= {"kl_mean", "kl_p95", "kl_p99", "top1_agreement", "perplexity"}
    assert document["accepted"] is False  # two answers prove nothing
    assert document["doubt"] or document["objections"]
    assert (fitted / "math.json").read_bytes() == before


def test_eval_refuses_another_model(call, fitted, tmp_path):
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    code, _, err = call(
        "profile", "eval", tmp_path / "tiny", fitted / "math.json", "--prompts", "task:chain", "--n", 1
    )
    assert code == 2
    assert "was made for pocket" in err


def test_eval_needs_prompts(call, fitted):
    code, _, err = call("profile", "eval", "pocket", fitted / "math.json")
    assert code == 2
    assert "say what to measure on: --prompts" in err
