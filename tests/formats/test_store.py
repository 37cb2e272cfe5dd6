"""The store as a reader sees it: where the bytes lie, what is copied, what other programs make of it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from araio.codecs import codec
from araio.config import ModelConfig
from araio.formats.checkpoint import Checkpoint
from araio.formats.manifest import Manifest
from araio.formats.safetensors import SafetensorsFile
from araio.formats.store import Store
from araio.formats.store_check import check_store
from araio.formats.store_layout import ExpertRecord, StoreCodecs
from araio.kernels.widen import widen
from araio.tensors import BlockFP8, Quantized
from araio.testing.checkpoints import tiny_config, write_tiny_checkpoint
from araio.weights.convert import convert

CODECS = StoreCodecs(experts="q4", dense="q8", embeddings="bf16")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "v3-fp8"
    write_tiny_checkpoint(folder, "v3-fp8")
    return folder


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "q4"
    convert(checkpoint, folder, CODECS)
    return folder


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(folder, ModelConfig.from_file(folder))


@pytest.mark.parametrize("name", ["f32", "bf16", "fp8", "q8", "q4"])
def test_a_record_is_three_matrices_at_aligned_places(name: str) -> None:
    config = tiny_config("v3-fp8")
    stored, record = codec(name), ExpertRecord(tiny_config("v3-fp8"), codec(name))
    dim, width = config.hidden_size, config.moe_intermediate_size
    shapes = {"gate_proj": (width, dim), "up_proj": (width, dim), "down_proj": (dim, width)}
    end = 0
    expected = []
    for matrix, shape in shapes.items():
        for part in stored.parts(shape):
            begin = -(-end // 64) * 64
            end = begin + part.bytes
            expected.append((matrix, begin, end))
    assert record.bytes == -(-end // 4096) * 4096
    room = np.zeros(record.bytes, np.uint8)
    found = [
        (matrix, begin, begin + array.nbytes)
        for matrix in shapes
        for array in record.arrays(room, matrix)
        for begin in [array.ctypes.data - room.ctypes.data]
    ]
    assert found == expected


def test_an_expert_is_one_read_and_its_matrices_are_views(store: Store) -> None:
    weights = [store.read_weight(f"model.layers.1.mlp.experts.5.{m}_proj.weight") for m in ("gate", "down")]
    record = store.read_record(1, 5)
    assert record.ctypes.data % 64 == 0
    for weight, matrix in zip(weights, ("gate_proj", "down_proj"), strict=True):
        assert isinstance(weight, Quantized)
        view = store.record.weight(record, matrix)
        assert isinstance(view, Quantized)
        assert np.shares_memory(view.data, record)
        assert np.shares_memory(view.scale, record)
        np.testing.assert_array_equal(view.data, weight.data)
        assert weight.data.ctypes.data % 64 == 0
    gate, down = weights
    assert isinstance(gate, Quantized)
    assert isinstance(down, Quantized)
    assert np.shares_memory(gate.data.base, down.data.base)


def test_files_are_plain_safetensors_with_records_on_pages(folder: Path) -> None:
    load_file = pytest.importorskip("safetensors.numpy").load_file
    experts = load_file(folder / "experts-00001.safetensors")
    manifest = json.loads((folder / "araio.json").read_text())
    file = SafetensorsFile(folder / "experts-00001.safetensors")
    assert file["experts"].begin == 4096
    records = experts["experts"]
    assert records.shape[1] % 4096 == 0
    checksums = manifest["files"]["experts-00001.safetensors"]["crc32"].split()
    assert checksums == [f"{zlib.crc32(record.tobytes()):08x}" for record in records]
    numbers = SafetensorsFile(folder / "dense.safetensors")
    assert numbers["model.layers.0.mlp.gate_proj.weight.data"].dtype == "U8"
    assert numbers["model.layers.0.mlp.gate_proj.weight.scale"].dtype == "F16"
    assert numbers["model.norm.weight"].dtype == "F32"
    assert numbers["lm_head.weight"].dtype == "BF16"


def test_the_manifest_comes_back_as_it_was_written(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(folder / "araio.json")
    assert manifest.codecs == CODECS
    (tmp_path / "again.json").write_text(manifest.text())
    assert Manifest.read(tmp_path / "again.json") == manifest
    assert manifest.text() == (folder / "araio.json").read_text()


def test_an_intact_store_passes_its_check(store: Store) -> None:
    sizes: list[int] = []
    check_store(store, sizes.append)
    assert sizes == [file.bytes for file in store.manifest.files.values()]
    assert len(sizes) == 3


def test_other_fp8_blocks_are_those_of_the_config(tmp_path: Path) -> None:
    quantization = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [64, 32],
    }
    write_tiny_checkpoint(tmp_path / "model", "v3-fp8", quantization_config=quantization)
    convert(tmp_path / "model", tmp_path / "fp8", StoreCodecs("fp8", "fp8", "bf16"))
    config = ModelConfig.from_file(tmp_path / "model")
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    with (
        Checkpoint.open(tmp_path / "model", (64, 32)) as checkpoint,
        Store(tmp_path / "fp8", config, (64, 32)) as store,
    ):
        weight = store.read_weight(name)
        assert isinstance(weight, BlockFP8)
        assert weight.block == (64, 32)
        np.testing.assert_array_equal(widen(weight), widen(checkpoint.read_weight(name)))
