"""Where experts lie: what is read from there is what loading the whole model reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from araio.codecs import codec
from araio.disk.reader import Check
from araio.disk.select import open_reader
from araio.errors import CheckpointError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import EXPERT_MATRICES
from araio.formats.store_layout import StoreCodecs
from araio.formats.write import write_checkpoint
from araio.kernels.widen import widen
from araio.tensors import BFloat16
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.convert import convert
from araio.weights.expert_files import CheckpointExperts, StoreExperts, expert_files
from araio.weights.load import open_checked

from .streams import stored_as


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("files")
    for family in ("v3", "v3-fp8"):
        write_tiny_checkpoint(home / family, family)
    stored_as(home / "v3", home / "v3-f32", "f32")
    for name in ("q4", "q8", "bf16", "f32", "fp8"):
        convert(home / "v3-fp8", home / f"store-{name}", StoreCodecs(name, name, "bf16"))
    return home


@pytest.mark.parametrize(
    "name", ["v3", "v3-fp8", "v3-f32", "store-q4", "store-q8", "store-bf16", "store-f32", "store-fp8"]
)
def test_what_is_read_is_what_is_stored(home: Path, name: str) -> None:
    with open_checked(home / name) as (config, opened):
        layers = [*config.moe_layers, *config.mtp_layers]
        files = expert_files(opened, config, layers)
        assert isinstance(files, StoreExperts if name.startswith("store") else CheckpointExperts)
        reader = open_reader()
        assert [reader.add(path) for path in files.paths] == list(range(len(files.paths)))
        keys = [(layer, expert) for layer in layers for expert in range(config.n_routed_experts)]
        records = np.zeros((len(keys), files.record.bytes), np.uint8)
        for tag, (layer, expert) in enumerate(keys):
            source = files.find(layer, expert)
            reader.submit(tag, records[tag], source.pieces, source.crc32)
        reader.drain()
        assert {done.error for done in reader.wait()} == {None}
        for record, (layer, expert) in zip(records, keys, strict=True):
            for matrix in EXPERT_MATRICES:
                stored = opened.read_weight(f"model.layers.{layer}.mlp.experts.{expert}.{matrix}.weight")
                found = files.record.weight(record, matrix)
                assert files.record.codec.holds(found)
                np.testing.assert_array_equal(widen(found), widen(stored))
        reader.close()


def test_a_store_has_checksums_and_a_checkpoint_has_checks(home: Path) -> None:
    for name, checks in (
        ("store-q4", {Check.NONE}),
        ("v3", {Check.BF16}),
        ("v3-f32", {Check.F32}),
        ("v3-fp8", {Check.FP8, Check.SCALE}),
    ):
        with open_checked(home / name) as (config, opened):
            source = expert_files(opened, config, list(config.moe_layers)).find(1, 0)
            assert {piece.check for piece in source.pieces} == checks
            assert (source.crc32 is None) == (Check.NONE not in checks)


@pytest.mark.parametrize("odd", ["model.layers.2.mlp.experts.7.down_proj.weight", "every expert"])
def test_experts_that_are_stored_in_several_ways_are_refused(home: Path, tmp_path: Path, odd: str) -> None:
    """Before the first token, and by the name of the tensor; in memory they run."""
    write_tiny_checkpoint(tmp_path, "v3")

    def tensors():
        with Checkpoint.open(home / "v3") as checkpoint:
            for name in checkpoint:
                weight = checkpoint.read_weight(name)
                is_odd = name == odd or (odd == "every expert" and ".experts.1." in name)
                yield name, codec("f32").encode(widen(weight)) if is_odd else weight

    write_checkpoint(tmp_path, tensors())
    with open_checked(tmp_path) as (config, opened):
        with pytest.raises(CheckpointError, match=r"tensor '.*' is stored as F32, .*araio convert") as told:
            expert_files(opened, config, list(config.moe_layers))
        assert odd in str(told.value) or odd == "every expert"
        assert isinstance(opened.read_weight("model.embed_tokens.weight"), BFloat16)
