"""`araio show`: the published figures, on the screen and as JSON."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from araio.cli.main import main
from araio.formats.safetensors import tensor_bytes
from araio.formats.store import Store
from araio.formats.store_layout import StoreCodecs
from araio.formats.write import write_checkpoint
from araio.testing.checkpoints import tiny_config, write_tiny_checkpoint
from araio.weights.convert import convert
from araio.weights.locate import PRESETS


@pytest.fixture
def show(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["show", *arguments])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_the_table_has_every_part_and_both_conventions(show):
    code, out, err = show("deepseek-r1")
    assert (code, err) == (0, "")
    for text in (
        "671,026,419,200",
        "36,625,618,432",
        "37,552,297,472",
        "653,908,770,816",
        "11,610,068,224",
        "671.0B, of which 36.6B per token (5.5%)",
        "70,272 bytes per token",
        "8 of 256 routed within 4 of 8 groups + 1 shared in 58 layers; router noaux_tc, sigmoid",
        "163,840 tokens, rotary base 10000, YaRN x40 from 4,096",
        "FP8 e4m3",
        "none here",
    ):
        assert text in out
    for part in (
        "embedding",
        "attention",
        "dense ffn",
        "shared experts",
        "gates",
        "gate bias",
        "norms",
        "head",
    ):
        assert part in out


@pytest.mark.parametrize("name", PRESETS)
def test_json_of_every_preset(show, name):
    code, out, err = show(name, "--json")
    assert (code, err) == (0, "")
    summary = json.loads(out)
    assert summary["model"] == name
    assert summary["parameters"]["active"] < summary["parameters"]["total"]
    assert summary["file_bytes"] is None


def test_a_folder_with_files(show, tmp_path):
    shutil.copy(PRESETS["moonlight-16b-a3b"], tmp_path / "config.json")
    write_checkpoint(tmp_path, [("a", np.zeros(1000, np.float32))])
    size = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert json.loads(show(str(tmp_path), "--json")[1])["file_bytes"] == size
    assert "rotary base 50000" in show(str(tmp_path))[1]


def test_a_store_is_counted_as_it_is_stored(show, tmp_path):
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    convert(tmp_path / "tiny", tmp_path / "store", StoreCodecs("q4", "q8", "bf16"))
    published = json.loads(show(str(tmp_path / "tiny"), "--json")[1])
    summary = json.loads(show(str(tmp_path / "store"), "--json", "--context", "9")[1])
    with Store(tmp_path / "store", tiny_config("v3")) as store:
        dense = sum(tensor_bytes(e.dtype, e.shape) for e in store.files[0].values())
    mtp, routed = summary["mtp"]["bytes"], summary["parts"]["routed_experts"]["bytes"]
    one_expert = routed // (2 * 16)  # two layers of 16, and a third one in the MTP module
    assert summary["weight_bytes"] + mtp == dense + 3 * 16 * one_expert
    # An expert is padded to 4,096 bytes in the files.
    assert summary["weight_bytes"] + mtp < summary["file_bytes"]
    assert one_expert * 2 < published["parts"]["routed_experts"]["bytes"] // (2 * 16)
    assert summary["at_context"]["decode_bytes"]["experts"] == 2 * 4 * one_expert
    out = show(str(tmp_path / "store"))[1]
    assert "experts q4, dense q8, embeddings bf16" in out
    assert "a store" in out


def test_what_a_token_takes_at_a_context(show):
    found = json.loads(show("deepseek-r1", "--context", "4989", "--json")[1])["at_context"]
    assert found["decode_flops"] == {"weights": 73_249_193_984, "attention": 84_764_147_712}
    assert found["decode_bytes"]["dense"] + found["decode_bytes"]["experts"] == 37_668_489_568
    assert found["decode_bytes"]["cache"] == 4989 * 70_272
    out = show("deepseek-r1", "--context", "4989")[1]
    assert "73.2 GFLOP with weights, 84.8 GFLOP of attention" in out
    assert json.loads(show("deepseek-r1", "--json")[1])["at_context"] is None
    assert "a prompt as long" not in show("deepseek-r1")[1]


def test_mistakes_are_one_line(show, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    for arguments, message in (
        ((str(tmp_path),), "model_type is 'gpt2'"),
        (("deepsek-r1",), "did you mean deepseek-r1?"),
        (("pocket", "--context", "0"), "--context is '0'; expected a number of tokens"),
        (("pocket", "--context", "131073"), "context is 131,073 tokens; this model's is 131,072 at most"),
    ):
        code, out, err = show(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_the_model_of_the_environment_is_the_default(show, monkeypatch):
    monkeypatch.setenv("ARAIO_MODEL", "kimi-k2")
    assert json.loads(show("--json")[1])["model"] == "kimi-k2"
