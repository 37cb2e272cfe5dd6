"""Indexes that lie: shards elsewhere, shards that are missing, tensors in another place or in two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from araio.errors import CheckpointError, FormatError
from araio.formats.checkpoint import Checkpoint
from araio.formats.shards import INDEX_NAME
from araio.formats.write import write_checkpoint

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Tensors a and b, in a shard each."""
    path = tmp_path / "checkpoint"
    write_checkpoint(path, [("a", np.ones(4, np.float32)), ("b", np.ones(4, np.float32))], max_shard_bytes=16)
    return path


def rewrite(folder: Path, weight_map) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.open(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "sub/model.safetensors",
        "/etc/passwd",
        "/tmp/x.safetensors",
        "..",
        "",
        ".hidden.safetensors",
        "..\\outside.safetensors",
        "a\0.safetensors",
        "a\n.safetensors",
        "\ud800.safetensors",
        "weights.bin",
        "%2e%2e%2foutside.safetensors",
        ["model.safetensors"],
        None,
        7,
    ],
)
def test_shard_names_are_plain_file_names(folder, shard):
    rewrite(folder, {"a": FIRST, "b": shard})
    refused(folder, r"places tensor 'b' in .*; expected the name of a \.safetensors file")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": "x", "a": "x"}}'],
)
def test_malformed_indexes(folder, content):
    (folder / INDEX_NAME).write_text(content)
    refused(folder, INDEX_NAME)


def test_a_shard_that_is_missing(folder):
    (folder / SECOND).unlink()
    refused(folder, f"names {SECOND}, which is missing")


def test_a_tensor_that_no_shard_has(folder):
    rewrite(folder, {"a": FIRST, "b": SECOND, "c": SECOND})
    refused(folder, f"places tensor 'c' in {SECOND}, which does not hold it")


def test_a_tensor_in_another_shard(folder):
    rewrite(folder, {"a": SECOND, "b": FIRST})
    refused(folder, "places tensor 'a' in")


def test_a_tensor_that_the_index_leaves_out(folder):
    rewrite(folder, {"a": FIRST, "b": SECOND})
    write_checkpoint(folder, [("a", np.ones(4, np.float32)), ("c", np.ones(4, np.float32))])
    (shard,) = folder.glob("*.safetensors")
    rewrite(folder, {"a": shard.name})
    refused(folder, "holds tensor 'c', but .* does not list it")


def test_a_tensor_in_two_shards(folder):
    (folder / SECOND).write_bytes((folder / FIRST).read_bytes())
    rewrite(folder, {"a": FIRST, "b": SECOND})
    refused(folder, "places tensor 'b'")
    other = folder / "other"
    write_checkpoint(other, [("a", np.ones(4, np.float32)), ("b", np.ones(4, np.float32))])
    (folder / SECOND).write_bytes(next(other.glob("*.safetensors")).read_bytes())
    refused(folder, f"{SECOND}: holds tensor 'a', but .* places it in {FIRST}")


def test_a_malformed_shard_is_named(folder):
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:-1])
    with pytest.raises(FormatError, match=f"{SECOND}: tensor 'b' ends.*truncated"):
        Checkpoint.open(folder)


# ---------------------------------------------------------------------- links


def test_a_link_that_leaves_the_folder(folder, tmp_path):
    outside = tmp_path / "outside.safetensors"
    (folder / SECOND).rename(outside)
    (folder / SECOND).symlink_to(outside)
    refused(folder, f"{SECOND}: is a link to {outside}, outside")


def test_a_link_to_itself_or_to_nothing(folder):
    (folder / SECOND).unlink()
    (folder / SECOND).symlink_to(SECOND)
    refused(folder, "link to itself")
    (folder / SECOND).unlink()
    (folder / SECOND).symlink_to("nothing")
    refused(folder, "missing")


def test_links_inside_the_folder_and_to_it(folder, tmp_path):
    (folder / SECOND).rename(folder / "blob")
    (folder / SECOND).symlink_to("blob")
    Checkpoint.open(folder).close()
    (tmp_path / "link").symlink_to(folder)
    Checkpoint.open(tmp_path / "link").close()


def test_the_hugging_face_cache(folder, tmp_path):
    """`models--x/snapshots/REVISION/` holds links to `models--x/blobs/HASH`."""
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "0123", tmp_path / "models--x" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in folder.iterdir():
        path.rename(blobs / path.stem)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.stem)
    with Checkpoint.open(snapshot) as checkpoint:
        assert set(checkpoint) == {"a", "b"}
    outside = tmp_path / "secret.safetensors"
    (blobs / Path(SECOND).stem).rename(outside)
    (snapshot / SECOND).unlink()
    (snapshot / SECOND).symlink_to(outside)
    refused(snapshot, "outside the checkpoint's folder")


# ---------------------------------------------------------------------- folders without a checkpoint


def test_what_a_folder_holds_instead(tmp_path):
    refused(tmp_path / "missing", "is not a folder")
    refused(tmp_path, f"has neither {INDEX_NAME} nor model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    refused(tmp_path, "pickled weights only")
    (tmp_path / FIRST).write_bytes(b"")
    refused(tmp_path, f"shards but no {INDEX_NAME}")
