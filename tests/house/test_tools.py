"""The picture's script and the benchmarks, over a tiny checkpoint."""

import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import araio
from araio.testing import turns
from araio.testing.checkpoints import write_tiny_checkpoint

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools") / "tiny"
    write_tiny_checkpoint(folder, "v3")
    return folder


def test_the_picture_lights_the_experts_of_the_token(tiny, load_script):
    model = araio.load(tiny)
    picture = ElementTree.fromstring(load_script("scripts/draw_route.py").draw(model, "1 + 2", "+"))
    config = model.config
    cells = [cell.get("class") for cell in picture.iter(f"{SVG}rect")]
    layers = len(config.moe_layers)
    assert cells.count("on") == layers * config.num_experts_per_tok
    assert cells.count("on") + cells.count("off") == layers * config.n_routed_experts
    assert cells.count("shared") == layers
    (lit,) = picture.iter(f"{SVG}tspan")
    assert lit.text.strip() == "+"
    ids = model.chat_format.render([{"role": "user", "content": "1 + 2"}]).ids
    place = next(at for at, token in enumerate(ids) if model.tokenizer.decode([token]).strip() == "+")
    drawn = [title.text.split(",")[0] for title in picture.iter(f"{SVG}title")]
    experts, _ = model.route(ids)
    assert drawn == [f"expert {expert}" for layer in experts[place].tolist() for expert in sorted(layer)]


def test_the_picture_needs_a_token_of_the_text(tiny, load_script):
    with pytest.raises(SystemExit, match="has no token 'x'; its tokens are"):
        load_script("scripts/draw_route.py").draw(araio.load(tiny), "1 + 2", "x")


def test_the_benchmark_compares_the_backends(tiny, load_script, monkeypatch, capsys):
    pytest.importorskip("araio.kernels._native")
    monkeypatch.setattr(turns, "read_bandwidth", lambda threads, rounds: 1e10)
    monkeypatch.setenv("ARAIO_THREADS", "1")
    arguments = ["--model", str(tiny), "--prefill", "8", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["decode.py", *arguments, "--json"])
    benchmark = load_script("benchmarks/decode.py")
    benchmark.main()
    report = json.loads(capsys.readouterr().out)
    names = ["reading memory, 1 thread", "prefill 8, 1 thread", "decode, 1 thread"]
    assert [row["name"] for row in report["rows"]] == names
    for row in report["rows"][1:]:
        assert row["ratio"] == pytest.approx(row["value"] / row["peer"])
    monkeypatch.setattr(sys, "argv", ["decode.py", *arguments])
    benchmark.main()
    assert all(name in capsys.readouterr().out for name in names[:1])
