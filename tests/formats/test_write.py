"""The writer: what it writes, other libraries read; what fails half way leaves the old checkpoint whole."""

from __future__ import annotations

import json
import resource
import weakref
from pathlib import Path

import numpy as np
import pytest

from araio.errors import CheckpointError
from araio.formats.checkpoint import Checkpoint
from araio.formats.shards import INDEX_NAME
from araio.formats.write import write_checkpoint
from araio.tensors import BFloat16, BlockFP8

SHARD_BYTES = 100


def tensors(value):
    """Three shards' worth, one of each kind; every number says which checkpoint it belongs to."""
    yield "a.weight", np.full((5, 4), value, np.float32)
    yield "b.weight", BFloat16(np.full((6, 7), value, np.uint16))
    yield "c.weight", BlockFP8(np.full((130, 3), value, np.uint8), np.full((2, 1), value, np.float32))


def value_of(folder: Path) -> int:
    """The one value that every tensor of a checkpoint was made with; fails for a mixture."""
    with Checkpoint.open(folder) as checkpoint:
        fp8 = checkpoint.read_weight("c.weight")
        bf16 = checkpoint.read("b.weight")
        assert isinstance(fp8, BlockFP8)
        assert isinstance(bf16, BFloat16)
        arrays = [checkpoint.read("a.weight"), bf16.bits, fp8.data, fp8.scale_inv]
    (value,) = {int(number) for array in arrays for number in np.unique(array)}
    return value


def test_names_index_and_sizes(tmp_path):
    write_checkpoint(tmp_path, tensors(1), SHARD_BYTES)
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, INDEX_NAME]
    index = json.loads((tmp_path / INDEX_NAME).read_text())
    assert index["metadata"]["total_size"] == 80 + 84 + 390 + 8
    assert index["weight_map"] == {
        "a.weight": names[0],
        "b.weight": names[1],
        "c.weight": names[2],
        "c.weight_scale_inv": names[2],
    }
    assert value_of(tmp_path) == 1


def test_one_shard_holds_what_fits(tmp_path):
    write_checkpoint(tmp_path, tensors(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model-00001-of-00001.safetensors",
        INDEX_NAME,
    ]


def test_one_shard_at_a_time_is_held_in_memory(tmp_path):
    seen: list[weakref.ref[np.ndarray]] = []
    most = 0

    def source():
        nonlocal most
        for number in range(8):
            array = np.zeros(10, np.float32)
            seen.append(weakref.ref(array))
            yield f"t{number}", array
            del array
            most = max(most, sum(reference() is not None for reference in seen))

    write_checkpoint(tmp_path, source(), max_shard_bytes=80)  # two tensors each
    assert most <= 3  # and the one that did not fit any more


def test_every_tensor_is_aligned(tmp_path):
    write_checkpoint(tmp_path, [*tensors(1), ("d.weight", np.ones((3,), np.float32))])
    with Checkpoint.open(tmp_path) as checkpoint:
        for entry in checkpoint.values():
            assert entry.begin % {"F32": 4, "BF16": 2, "F8_E4M3": 1}[entry.dtype] == 0


def test_empty_and_scalar_tensors(tmp_path):
    write_checkpoint(tmp_path, [("e", np.zeros((0, 3), np.float32)), ("s", np.array(2, np.float32))])
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.read("e").shape == (0, 3)
        assert checkpoint.read("s") == np.float32(2)


def test_the_library_reads_what_we_write(tmp_path):
    torch = pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    bits = np.arange(12, dtype=np.uint16).reshape(3, 4)
    numbers = np.random.default_rng(0).standard_normal((4, 6), np.float32).T  # not contiguous
    fp8 = BlockFP8(np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((1, 1), np.float32))
    write_checkpoint(tmp_path, [("bf16", BFloat16(bits)), ("f32", numbers), ("fp8", fp8)])
    loaded = load_file(tmp_path / "model-00001-of-00001.safetensors")
    np.testing.assert_array_equal(loaded["f32"].numpy(), numbers)
    np.testing.assert_array_equal(loaded["bf16"].view(torch.uint16).numpy(), bits)
    assert loaded["fp8"].dtype == torch.float8_e4m3fn
    np.testing.assert_array_equal(loaded["fp8"].view(torch.uint8).numpy(), fp8.data)


def test_we_read_what_the_library_writes(tmp_path):
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(5, 3, generator=generator)
    save_file(
        {
            "f32": numbers,
            "bf16": numbers.bfloat16(),
            "f16": numbers.half(),
            "fp8": numbers.to(torch.float8_e4m3fn),
        }
        | {"fp8_scale_inv": torch.full((1, 1), 2.0), "empty": torch.zeros(0, 4), "scalar": torch.tensor(3.0)},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with Checkpoint.open(tmp_path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("f32"), numbers.numpy())
        np.testing.assert_array_equal(checkpoint.read("f16"), numbers.half().float().numpy())
        bf16, fp8 = checkpoint.read_weight("bf16"), checkpoint.read_weight("fp8")
        assert isinstance(bf16, BFloat16)
        assert isinstance(fp8, BlockFP8)
        np.testing.assert_array_equal(bf16.bits, numbers.bfloat16().view(torch.uint16).numpy())
        np.testing.assert_array_equal(fp8.data, numbers.to(torch.float8_e4m3fn).view(torch.uint8).numpy())
        assert checkpoint.read("empty").shape == (0, 4)
        assert checkpoint.read("scalar").shape == ()


# ---------------------------------------------------------------------- replacing and failing


def test_a_checkpoint_is_replaced_again_and_again(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for value, shard_bytes in ((1, SHARD_BYTES), (2, SHARD_BYTES), (3, SHARD_BYTES), (4, 1 << 20)):
        write_checkpoint(tmp_path, tensors(value), shard_bytes)
        assert value_of(tmp_path) == value
        shards = 3 if shard_bytes == SHARD_BYTES else 1
        assert len(list(tmp_path.iterdir())) == shards + 2  # with the index and config.json
    assert (tmp_path / "config.json").read_text() == "{}"


def test_a_single_file_is_replaced(tmp_path):
    write_checkpoint(tmp_path, tensors(1))
    (tmp_path / "model-00001-of-00001.safetensors").rename(tmp_path / "model.safetensors")
    (tmp_path / INDEX_NAME).unlink()
    assert value_of(tmp_path) == 1
    write_checkpoint(tmp_path, tensors(2))
    assert value_of(tmp_path) == 2
    assert not (tmp_path / "model.safetensors").exists()


def test_a_source_that_raises_changes_nothing(tmp_path):
    def broken():
        yield from tensors(2)
        raise RuntimeError("source")

    write_checkpoint(tmp_path, tensors(1), SHARD_BYTES)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="source"):
        write_checkpoint(tmp_path, broken(), SHARD_BYTES)
    assert sorted(tmp_path.iterdir()) == before
    assert value_of(tmp_path) == 1


def test_a_full_disk_is_one_error_and_changes_nothing(tmp_path):
    write_checkpoint(tmp_path, tensors(1), SHARD_BYTES)
    before = sorted(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written.*unchanged"):
            write_checkpoint(tmp_path, tensors(2), SHARD_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(tmp_path.iterdir()) == before
    assert value_of(tmp_path) == 1


@pytest.mark.parametrize("step", range(4))
def test_a_machine_that_stops_between_two_renames(tmp_path, monkeypatch, step):
    """After three shards and the index there is no rename left; before, the old checkpoint must be whole."""
    write_checkpoint(tmp_path, tensors(1), SHARD_BYTES)
    done = 0
    rename = Path.rename

    def stops(path, target):
        nonlocal done
        if done == step:
            raise OSError(5, "Input/output error")
        done += 1
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stops)
    with pytest.raises(CheckpointError, match="unchanged"):
        write_checkpoint(tmp_path, tensors(2), SHARD_BYTES)
    monkeypatch.undo()
    assert value_of(tmp_path) == 1
    write_checkpoint(tmp_path, tensors(3), SHARD_BYTES)
    assert value_of(tmp_path) == 3
    assert len(list(tmp_path.iterdir())) == 4  # what the failure left behind is gone


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    leftover = tmp_path / ".incoming-killed"
    leftover.mkdir()
    (leftover / "0").write_bytes(b"half a shard")
    write_checkpoint(tmp_path, tensors(1))
    assert not leftover.exists()


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError, match="taken: the checkpoint could not be written"):
        write_checkpoint(tmp_path / "taken", tensors(1))


def test_a_damaged_index_is_replaced(tmp_path):
    (tmp_path / INDEX_NAME).write_text('{"weight_map": [')
    write_checkpoint(tmp_path, tensors(2), SHARD_BYTES)
    assert value_of(tmp_path) == 2


def test_an_old_file_that_cannot_be_deleted_is_told_as_that(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, tensors(1), SHARD_BYTES)

    def refuses(path, missing_ok=False):
        raise OSError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "unlink", refuses)
    with pytest.raises(CheckpointError, match="the new checkpoint is in place") as caught:
        write_checkpoint(tmp_path, tensors(2))
    assert "unchanged" not in str(caught.value)
    monkeypatch.undo()
    assert value_of(tmp_path) == 2
