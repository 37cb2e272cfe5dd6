"""The picture's script and the benchmarks, over a tiny checkpoint."""

import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import araio
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


def test_the_benchmark_reports_both_backends_against_a_limit(tiny, load_script, monkeypatch, capsys):
    pytest.importorskip("araio.kernels._native")
    benchmark = load_script("benchmarks/decode.py")
    monkeypatch.setattr(benchmark, "MEMORY_BYTES", 1 << 20)
    arguments = ["--model", str(tiny), "--prefill", "8", "--decode", "4", "--rounds", "1", "--json"]
    monkeypatch.setattr(sys, "argv", ["decode.py", *arguments])
    benchmark.main()
    report = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in report["rows"]}
    assert set(rows) == {
        f"{phase} {backend}" for phase in ("prefill", "decode") for backend in benchmark.BACKENDS
    }
    assert all(row["value"] > 0 for row in rows.values())
    assert rows["decode reference"]["ratio"] == 1
    decode = rows["decode native"]
    assert decode["limit"] == pytest.approx(report["memory_bytes_per_s"] / report["active_weight_bytes"])
    assert decode["fraction_of_limit"] == pytest.approx(decode["value"] / decode["limit"])
