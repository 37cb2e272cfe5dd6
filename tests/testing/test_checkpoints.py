"""The tiny checkpoints keep their promises: the same every time, complete, and hard in the right places."""

from pathlib import Path

import pytest

from araio.config import ModelConfig
from araio.formats.checkpoint import Checkpoint
from araio.kernels.widen import widen
from araio.tensors import BlockFP8
from araio.testing.checkpoints import FAMILIES, write_tiny_checkpoint


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_written_the_same_each_time_and_fits_its_config(tmp_path: Path, family: str) -> None:
    config = write_tiny_checkpoint(tmp_path / "a", family)
    write_tiny_checkpoint(tmp_path / "b", family)
    write_tiny_checkpoint(tmp_path / "c", family, seed=1)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")
    assert ModelConfig.from_file(tmp_path / "a") == config
    with Checkpoint.open(tmp_path / "a") as checkpoint:
        checkpoint.check(config)
        assert checkpoint.holds_mtp(config) == family.startswith("v3")


def test_every_biased_score_of_v3_is_negative(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v3")
    with Checkpoint.open(tmp_path) as checkpoint:
        biases = [name for name in checkpoint if name.endswith("e_score_correction_bias")]
        assert len(biases) == 3
        assert all((widen(checkpoint.read(name)) < -1).all() for name in biases)


def test_fp8_matrices_have_partial_blocks(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v3-fp8")
    with Checkpoint.open(tmp_path) as checkpoint:
        weight = checkpoint.read_weight("model.layers.1.mlp.experts.0.gate_proj.weight")
    assert isinstance(weight, BlockFP8)
    assert all(size > 128 and size % 128 for size in weight.shape)
