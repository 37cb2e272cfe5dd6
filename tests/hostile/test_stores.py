"""Stores that lie or are damaged: each ends in an error that names the file, and the tensor or the expert."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from araio.errors import AraioError, CheckpointError, FormatError
from araio.formats.safetensors import SafetensorsFile
from araio.formats.store import Store
from araio.formats.store_check import check_store
from araio.formats.store_layout import StoreCodecs
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.convert import convert
from araio.weights.load import load_model, open_checked

DENSE, EXPERTS = "dense.safetensors", "experts-00002.safetensors"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("stores")
    write_tiny_checkpoint(home / "model", "v3")
    convert(home / "model", home / "store", StoreCodecs("q4", "q8", "bf16"))
    return home / "store"


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    return shutil.copytree(intact, tmp_path / "store")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "araio.json").read_text())
    change(document)
    (folder / "araio.json").write_text(json.dumps(document))


def refused(folder: Path, file: str, message: str, error: type[AraioError] = CheckpointError) -> None:
    with pytest.raises(error, match=message) as caught, open_checked(folder):
        pass
    assert str(caught.value).startswith(str(folder / file))


# ---------------------------------------------------------------------- the manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), r"version 2, this araio reads up to 1; install a newer araio"),
        (lambda d: d.update(version="1"), r"version is '1'; expected an integer"),
        (lambda d: d.update(format="other"), r"format is 'other'; expected araio store"),
        (lambda d: d.update(surprise=1), r"the key 'surprise' .* is not known"),
        (lambda d: d.pop("files"), r"files is missing; expected an object"),
        (lambda d: d["codecs"].update(experts="q5"), r"codec 'q5' is unknown; expected one of f32, bf16"),
        (lambda d: d["codecs"].update(embeddings="fp8"), r"embeddings are not stored as fp8"),
        (lambda d: d["codecs"].update(dense=7), r"codecs.dense is 7; expected text"),
        (lambda d: d["codecs"].pop("dense"), r"codecs.dense is missing"),
        (
            lambda d: d["layout"].update(tile_rows=8),
            r"layout.tile_rows is 8; expected an integer from 16 to 16",
        ),
        (lambda d: d["layout"].update(record_alignment=512), r"layout.record_alignment is 512"),
        (lambda d: d["source"].update(fingerprint="x"), r"source.fingerprint is 'x'"),
        (lambda d: d["files"][DENSE].update(bytes=-1), r"files.dense.safetensors.bytes is -1"),
        (lambda d: d["files"][DENSE].update(sha256="00"), r"sha256 is '00'"),
        (lambda d: d["files"][EXPERTS].update(crc32="xyz"), r"crc32 is 'xyz'"),
        (lambda d: d["files"][EXPERTS].update(crc32="00000000"), rf"{EXPERTS} has 1 checksums; expected 16"),
        (lambda d: d["files"][DENSE].update(crc32="00000000"), rf"{DENSE} has 1 checksums; expected \d+"),
        (lambda d: d["files"].pop(EXPERTS), rf"{EXPERTS} is missing; config.json calls for it"),
        (lambda d: d["files"].pop(DENSE), rf"{DENSE} is missing; config.json calls for it"),
    ],
)
def test_a_manifest_that_is_not_one(folder: Path, change: Callable[..., object], message: str) -> None:
    rewrite(folder, change)
    refused(folder, "araio.json", message)


@pytest.mark.parametrize("name", ["../dense.safetensors", "/etc/passwd", "sub/x.safetensors", "x.bin", ".x"])
def test_files_have_plain_names(folder: Path, name: str) -> None:
    rewrite(folder, lambda d: d["files"].update({name: d["files"][DENSE]}))
    refused(folder, "araio.json", r"expected names of \.safetensors files in the same folder")


def test_a_file_that_is_a_link_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / DENSE).rename(tmp_path / "elsewhere.safetensors")
    (folder / DENSE).symlink_to(tmp_path / "elsewhere.safetensors")
    refused(folder, DENSE, "outside the checkpoint's folder")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": "araio store"}', b"\xff", b'{"a":1,"a":2}']
)
def test_a_manifest_that_is_not_json(folder: Path, content: bytes) -> None:
    (folder / "araio.json").write_bytes(content)
    refused(folder, "araio.json", "is not|holds|version is missing|appears twice")


def test_one_file_too_many(folder: Path) -> None:
    shutil.copy(folder / EXPERTS, folder / "experts-00009.safetensors")
    rewrite(folder, lambda d: d["files"].update({"experts-00009.safetensors": d["files"][EXPERTS]}))
    refused(folder, "araio.json", "experts-00009.safetensors is one too many")


# ---------------------------------------------------------------------- the files


@pytest.mark.parametrize("name", [DENSE, EXPERTS])
def test_a_file_that_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, "araio.json", f"names {name}, which is missing; convert the model again")


def test_a_manifest_that_is_missing(folder: Path) -> None:
    (folder / "araio.json").unlink()
    refused(folder, "", r"is a store .* without its araio\.json; convert the model again")


@pytest.mark.parametrize("name", [DENSE, EXPERTS])
@pytest.mark.parametrize("left", [0, 5, 100, 5000, -1])
def test_a_file_that_is_truncated(folder: Path, name: str, left: int) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:left])
    refused(
        folder, name, r"(truncated, |too few .*; |of another store, )convert the model again$", FormatError
    )


def test_a_file_of_another_size_than_the_manifest_says(folder: Path) -> None:
    rewrite(folder, lambda d: d["files"][EXPERTS].update(bytes=4096))
    refused(folder, EXPERTS, r"has [\d,]+ bytes, araio.json says 4,096; the file is incomplete")


def test_a_record_of_another_size(folder: Path) -> None:
    rewrite(folder, lambda d: d["codecs"].update(experts="q8"))
    refused(
        folder, EXPERTS.replace("2", "1"), r"tensor 'experts' is U8 \[16, 4096\]; expected U8 \[16, 8192\]"
    )


def test_a_dense_tensor_of_another_codec(folder: Path) -> None:
    rewrite(folder, lambda d: d["codecs"].update(dense="q4"))
    refused(folder, DENSE, r"tensor '.*\.data' is U8 \[.*, 512\]; expected U8 \[.*, 256\]")


def test_a_config_of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_routed_experts": 20}))
    refused(folder, DENSE, r"gate\.weight' is F32 \[16, 64\]; expected F32 \[20, 64\]")


def test_a_config_with_another_layer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(CheckpointError), open_checked(folder):
        pass


def test_records_that_begin_within_a_page(folder: Path) -> None:
    content = (folder / EXPERTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length].rstrip()
    (folder / EXPERTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    size = (folder / EXPERTS).stat().st_size
    rewrite(folder, lambda d: d["files"][EXPERTS].update(bytes=size))
    refused(folder, EXPERTS, r"records begin at byte \d+; expected a multiple of 4,096")


# ---------------------------------------------------------------------- the bytes


def damage(path: Path, offset: int, value: int) -> None:
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(bytes([value]))


def checked(folder: Path) -> None:
    with open_checked(folder) as (_, store):
        assert isinstance(store, Store)
        check_store(store)


def test_a_damaged_record_is_named_by_layer_and_expert(folder: Path) -> None:
    damage(folder / EXPERTS, 4096 + 7 * 4096 + 11, 0x33)
    with pytest.raises(
        CheckpointError, match="the record of layer 2, expert 7, fails its checksum"
    ) as caught:
        checked(folder)
    assert str(caught.value).startswith(str(folder / EXPERTS))


def test_a_model_with_a_flipped_nibble_does_not_load(folder: Path) -> None:
    offset = 4096 + 7 * 4096 + 11
    damage(folder / EXPERTS, offset, (folder / EXPERTS).read_bytes()[offset] ^ 0x10)
    with pytest.raises(
        CheckpointError, match="the record of layer 2, expert 7, fails its checksum; convert the model again"
    ) as caught:
        load_model(folder)
    assert str(caught.value).startswith(str(folder / EXPERTS))


@pytest.mark.parametrize("use", [checked, load_model])
def test_a_flipped_bit_of_the_dense_file_is_named_by_its_tensor(
    folder: Path, use: Callable[[Path], object]
) -> None:
    with closing(SafetensorsFile(folder / DENSE)) as file:
        name = "model.layers.1.self_attn.o_proj.weight.data"
        offset = file[name].begin + 100
    damage(folder / DENSE, offset, (folder / DENSE).read_bytes()[offset] ^ 1)
    with pytest.raises(CheckpointError, match=f"{DENSE}: tensor '{name}' fails its checksum; convert"):
        use(folder)


def test_a_store_from_before_tensors_had_checksums_is_damaged_as_a_file(folder: Path) -> None:
    rewrite(folder, lambda d: d["files"][DENSE].pop("crc32"))
    checked(folder)
    damage(folder / DENSE, (folder / DENSE).stat().st_size - 1, 0x33)
    load_model(folder)
    with pytest.raises(CheckpointError, match=r"dense\.safetensors: the file fails its checksum; convert"):
        checked(folder)


def test_a_damaged_header_that_still_parses(folder: Path) -> None:
    damage(folder / EXPERTS, 4000, ord("\n"))  # in the padding
    with pytest.raises(CheckpointError, match="the header fails its checksum"):
        checked(folder)


def test_a_checksum_that_lies(folder: Path) -> None:
    rewrite(folder, lambda d: d["files"][DENSE].update(sha256="0" * 64))
    with pytest.raises(CheckpointError, match="fails its checksum"):
        checked(folder)


def test_a_scale_that_is_no_number_is_refused_with_its_tensor(folder: Path) -> None:
    with open_checked(folder) as (_, store):
        assert isinstance(store, Store)
        offset = store.record.arrays(np.zeros(store.record.bytes, np.uint8), "up_proj")[1]
        begin = offset.ctypes.data - offset.base.ctypes.data
    damage(folder / EXPERTS, 4096 + 3 * 4096 + begin + 1, 0x7E)
    records = SafetensorsFile(folder / EXPERTS).read("experts")
    checksums = " ".join(f"{zlib.crc32(record.data):08x}" for record in records)
    rewrite(folder, lambda d: d["files"][EXPERTS].update(crc32=checksums))
    with pytest.raises(
        CheckpointError, match=r"tensor 'model\.layers\.2\.mlp\.experts\.3\.up_proj.weight' holds NaN"
    ):
        load_model(folder)
