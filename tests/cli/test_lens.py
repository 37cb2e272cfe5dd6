"""`araio lens`: tables, JSON, a report, a picture; and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest

from araio.lens.report import read_report
from araio.traces import Trace, TraceHeader

DOMAINS = ("mathematics", "logic")


def write_trace(folder, *, seed=0, domains=DOMAINS, fingerprint="a" * 64, layers=(1, 2)):
    """Two domains of eight texts; expert 1 is the first domain's, expert 2 the second's."""
    random = np.random.default_rng(seed)
    tokens, each = 16 * 20, 20
    seq = np.arange(tokens) // each
    domain = seq % len(domains)
    experts = np.argsort(random.random((tokens, len(layers), 12)), axis=2)[..., :1] + 4
    experts = np.concatenate([1 + np.repeat(domain[:, None, None], len(layers), axis=1), experts], axis=2)
    weights = np.tile(np.array([0.75, 0.25]), (tokens, len(layers), 1))
    header = TraceHeader(
        model="[made]",
        fingerprint=fingerprint,
        layers=layers,
        n_routed_experts=16,
        top_k=2,
        norm_topk_prob=True,
        domains=domains,
    )
    Trace.from_arrays(
        header, expert_ids=experts, weights=weights, seq=seq, domain=domain, token_id=np.arange(tokens) % 30
    ).save(folder)
    return folder


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return write_trace(tmp_path_factory.mktemp("lens") / "made.moetrace")


def test_it_says_who_serves_whom_and_how_sure_that_is(araio_command, trace, tmp_path):
    report, picture = tmp_path / "out.html", tmp_path / "out.svg"
    done = araio_command("lens", trace, "--report", report, "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[made]: experts specialise by domain, strongly\n")
    # Who it is, of how many of its domain's tokens it is chosen for, and of how many elsewhere.
    assert re.search(r"\b[12], 1 +100% \(100 to 100%\) +0%\s*\n", done.stdout)
    assert re.search(r"\b[12], 2 +100% \(100 to 100%\) +0%\s*\n", done.stdout)
    assert "bit of the domain, of 1.000" in done.stdout
    assert "mean" in done.stdout
    assert "careful: " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert f"wrote {report}" in done.stderr
    document = read_report(report)
    assert document["title"] == "[made]"
    assert document["strip"]["texts"] is None  # no model of that name is here
    assert picture.read_text().startswith("<?xml")


def test_json_is_the_summary_and_the_same_for_the_same_seed(araio_command, trace, tmp_path):
    report = tmp_path / "out.html"
    done = araio_command("lens", trace, "--json", "--seed", 3, "--report", report)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["format"], document["seed"]) == ("araio-lens", 3)
    assert document == read_report(report)["summary"]


def test_several_traces_are_pooled_and_one_is_compared(araio_command, tmp_path):
    first = write_trace(tmp_path / "a.moetrace", domains=("mathematics", "logic"))
    second = write_trace(tmp_path / "b.moetrace", domains=("language", "logic"), seed=1)
    done = araio_command("lens", first, second, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [domain["name"] for domain in document["domains"]] == ["mathematics", "logic", "language"]
    assert [domain["sequences"] for domain in document["domains"]] == [8, 16, 8]
    done = araio_command("lens", first, "--compare", first)
    assert done.returncode == 0, done.stderr
    assert "320 tokens of both, 100% alike in all layers" in done.stdout


def test_text_comes_from_the_tokenizer_of_a_model(araio_command, trace, tmp_path):
    report = tmp_path / "out.html"
    done = araio_command("lens", trace, "--report", report, "--tokenizer", "pocket", "--json")
    assert done.returncode == 0, done.stderr
    strip = read_report(report)["strip"]
    assert len(strip["vocabulary"]) == 30
    assert strip["texts"][:3] == [0, 1, 2]


def test_traces_that_are_none_or_do_not_fit_are_refused_in_one_line(araio_command, trace, tmp_path):
    other = write_trace(tmp_path / "other.moetrace", fingerprint="b" * 64)
    damaged = tmp_path / "damaged.moetrace"
    shutil.copytree(trace, damaged)
    shard = next(damaged.glob("tokens-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([tmp_path / "nowhere"], "nowhere"),
        ([tmp_path / "empty"], "trace.json"),
        ([damaged], "tokens-00000.safetensors"),
        ([trace, other], "only traces of one model"),
        ([trace, trace], "given twice"),
        ([trace, "--tokenizer", "nobody", "--report", tmp_path / "x.html"], "nobody"),
        ([trace, "--ablate", "pocket", "--n", 1], "not those of pocket"),
        ([trace, "--report", tmp_path / "missing" / "x.html"], "x.html"),
        ([trace, "--plot", tmp_path / "x.bmp"], "x.bmp"),
        ([tmp_path / "nowhere", "--plot", tmp_path / "missing" / "x.png"], "there is no folder"),
        ([tmp_path / "nowhere", "--ablate", "nobody"], "called 'nobody'"),
        ([tmp_path / "nowhere", "--ablate", "pocket", "--remove", 2], "--remove is 2.0; expected a share"),
    ):
        done = araio_command("lens", *arguments)
        assert done.returncode == 2, arguments
        assert done.stderr.splitlines()[-1].startswith("error: "), done.stderr
        assert message in done.stderr.splitlines()[-1]
        assert done.stdout == ""
    assert not (tmp_path / "x.html").exists()


def test_decoded_tokens_alone_can_be_looked_at(araio_command, tmp_path):
    folder = tmp_path / "phases.moetrace"
    whole = Trace.open(write_trace(tmp_path / "made.moetrace"))
    phase = np.arange(whole.tokens) % 2  # every second token was written, in every text
    Trace.from_arrays(
        whole.header,
        expert_ids=whole.experts,
        phase=phase,
        **{name: whole.column(name) for name in ("weights", "seq", "domain", "token_id")},
    ).save(folder)
    found = {
        which: json.loads(araio_command("lens", folder, "--tokens", which, "--json").stdout)
        for which in ("all", "decoded", "prefill")
    }
    assert [found[which]["tokens_known"] for which in found] == [320, 160, 160]
    assert [found[which]["phases"] for which in found] == [None, ["decode"], ["prefill", "forced"]]
    assert found["decoded"]["locality_of"] == "decode"


def test_a_picture_that_cannot_be_drawn_is_told_before_anything_is_computed(araio_command, tmp_path):
    done = araio_command("lens", tmp_path / "missing.moetrace", "--plot", tmp_path / "out.xyz")
    assert done.returncode == 2
    assert "no format 'xyz'; expected a name that ends in one of" in done.stderr
