"""`araio plan`: what it answers from a name alone, and one line for every mistake."""

from __future__ import annotations

import json

import pytest

from araio.cli.main import main
from araio.costs.machine import Machine
from araio.costs.speeds import Attention, Curve, Product, Speeds
from araio.eval import machine
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.locate import PRESETS


@pytest.fixture
def plan(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["plan", *arguments])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture
def here(monkeypatch):
    """A measurement of this machine that took no time."""
    product = Product(Curve.flat(1e11), Curve.flat(2e10))
    rates = Speeds(
        3e10,
        dict.fromkeys(("f32", "bf16", "fp8", "q8", "q4"), product),
        Attention(Curve.flat(1e11), 1e11),
    )
    found = Machine("a processor", "compiled for it", "2026-01-01", 16 << 30, {1: rates, 2: rates}, 1e9)
    monkeypatch.setattr(machine, "this_machine", lambda threads, **options: found)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_on_published_hardware(plan, name):
    code, out, err = plan(name, "--hardware", "8xb300", "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)["machines"]
    assert found["method"] == "published"
    assert found["decode"]["tok_per_s"] > 0
    assert found["per_token"]["joules_low"] < found["per_token"]["joules"] < found["per_token"]["joules_high"]
    assert found["per_token"]["joules_method"].startswith("model:")


def test_the_screen_says_where_things_lie_and_how_it_is_known(plan):
    code, out, err = plan(
        "deepseek-r1", "--hardware", "epyc-9755", "--ram", "64GiB", "--disk", "7GB/s", "--hit-rate", "0.7"
    )
    assert (code, err) == (0, "")
    for text in (
        "671.0B parameters, 36.6B active", "experts in fp8", "AMD EPYC 9755", "68.7 GB", "least that runs",
        "20.3 GB", "experts on disk", "70%", "disk (", "unknown", "compute unknown", "~ is modelled",
        "watts while", "481 g/kWh, World, 2023", "deepseek-r1 by API", "2.19 out USD",
        "dense, as large in all",
    ):  # fmt: skip
        assert text in out, text
    assert max(map(len, out.splitlines())) <= 160
    assert len(out.splitlines()) <= 40


def test_machines_side_by_side_and_one_that_is_too_small(plan):
    code, out, err = plan("deepseek-r1", "--hardware", "8xh200", "--hardware", "m4-max", "--batch", "4")
    assert code == 0
    assert "8 x NVIDIA H200" in out
    assert "of each sequence" in out
    assert err.startswith("left out: m4-max: the model takes")


@pytest.mark.native
def test_here(plan, here):
    code, out, err = plan("--threads", "2", "--context", "1k")
    assert (code, err) == (0, "")
    assert "a processor, 2 threads" in out
    assert "measured on 2026-01-01" in out
    assert "1 sequence of 1,024 tokens" in out


@pytest.mark.native
def test_a_folder_and_a_codec(plan, here, tmp_path):
    write_tiny_checkpoint(tmp_path, "v3")
    arguments = (str(tmp_path), "--context", "64", "--threads", "1", "--json")
    plain, small = (json.loads(plan(*arguments, *more)[1]) for more in ((), ("--quant", "q4")))
    assert plain["codecs"]["experts"] == "bf16"
    assert small["codecs"]["experts"] == "q4"
    assert small["machines"][0]["bytes"]["whole"] < plain["machines"][0]["bytes"]["whole"]


def test_money_and_grams_follow_from_what_is_stated(plan):
    arguments = ("deepseek-r1", "--hardware", "8xb200", "--country", "500", "--per-kwh", "0.5")
    code, out, _ = plan(*arguments, "--rent", "36", "--price", "1,2", "--json")
    assert code == 0
    document = json.loads(out)
    (found,) = document["machines"]
    per_million = found["per_million_tokens"]
    assert per_million["electricity_usd"] * 1000 == pytest.approx(per_million["g_co2e"])
    assert per_million["rent_usd"] == pytest.approx(1e4 / found["decode"]["tok_per_s"])
    assert document["prices"]["output"] == 2


def test_a_hit_rate_that_changes_nothing_is_told(plan):
    machines = ("--hardware", "8xb200", "--hardware", "m3-ultra", "--ram", "500GB", "--disk", "7GB/s")
    code, out, _ = plan("deepseek-r1", *machines, "--hit-rate", "0.7")
    assert code == 0
    told = "--hit-rate changes nothing on"
    assert told not in " ".join(out.split())
    code, out, _ = plan("deepseek-r1", "--hardware", "8xb200", "--hit-rate", "0.7")
    assert f"{told} 8xb200-sxm: every expert is in memory" in " ".join(out.split())
    assert told not in plan("deepseek-r1", "--hardware", "8xb200")[1]


def test_a_picture(plan, tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("plan.png", "plan.svg"):
        file = tmp_path / name
        code, _, err = plan("deepseek-v2-lite", "--hardware", "h100-sxm", "--plot", str(file))
        assert (code, err) == (0, "")
        assert file.stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--ram", "64"], "--ram is '64'; expected a size"),
        (["--ram", "10GB"], "10.0 GB of memory are too few: 20.3 GB are the least"),
        (["--ram", "64GB"], "say how fast it is read, as in --disk"),
        (["--disk", "fast"], "--disk is 'fast'; expected a speed"),
        (["--hardware", "b201"], "no hardware is called 'b201'"),
        (["--context", "200k"], "--context is 204,800 tokens; this model's context is 163,840 at most"),
        (["--prompt", "1M"], "--prompt is 1,048,576 tokens"),
        (["--batch", "0"], "batch is 0"),
        (["--ram", "64GB", "--disk", "1GB/s", "--hit-rate", "1.5"], "hit_rate is 1.5"),
        (["--hit-rate", "1.5"], "hit_rate is 1.5"),
        (["--quant", "q5"], "--quant is 'q5'; expected one of"),
        (["--price", "nobody"], "no price list is called 'nobody'"),
        (["--country", "Atlantis"], "'Atlantis' is none of"),
        (["--per-kwh", "-1"], "per_kwh is -1"),
        (["--plot", "plan.nothing"], "--plot plan.nothing: "),
        (["--plot", "/missing/plan.png"], "--plot /missing/plan.png: cannot be written (No such file"),
    ],
)
def test_a_mistake_is_one_line(plan, arguments, found):
    code, out, err = plan("deepseek-r1", "--hardware", "epyc-9755", *arguments)
    assert (code, out) == (2, "")
    assert found in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_model_without_experts_has_no_twins(plan, tmp_path):
    write_tiny_checkpoint(tmp_path / "dense", "v3", first_k_dense_replace=4, num_hidden_layers=4)
    picture = tmp_path / "plan.svg"
    asked = ("--hardware", "8xb200", "--context", "64", "--plot", str(picture))
    code, out, err = plan(str(tmp_path / "dense"), *asked)
    assert (code, err) == (0, "")
    assert not any(line.lstrip().startswith("experts") for line in out.splitlines())
    assert "dense, as large" not in out
    assert picture.exists()
