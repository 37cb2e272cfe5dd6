"""The models for llama.cpp hold what their config says, are quantised as they claim, and have no mean."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from peers.gguf_models import (
    EMBEDDING_RMS,
    QUANTISATIONS,
    active_bytes,
    gguf_file,
    random_blocks,
    tensors,
    write_gguf,
)

from araio.config import ModelConfig
from araio.costs.parameters import count_parameters
from araio.errors import AraioError
from araio.testing.checkpoints import tiny_config
from araio.testing.shapes import SHAPES, lite, r1_slice

# Every row is made of whole blocks of 32, and some of whole blocks of 256.
WHOLE_BLOCKS = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 64,
    "kv_lora_rank": 64,
    "q_lora_rank": 96,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 64,
}


@pytest.fixture
def config() -> ModelConfig:
    return tiny_config("v3", **WHOLE_BLOCKS, num_nextn_predict_layers=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_has_as_many_weights_as_its_config(shape: str) -> None:
    config = SHAPES[shape]()
    stored = list(tensors(config, "q4_0"))
    assert len({tensor.name for tensor in stored}) == len(stored)
    assert sum(int(np.prod(tensor.shape)) for tensor in stored) == count_parameters(config).model.total


def test_a_token_reads_the_bytes_of_the_active_weights() -> None:
    # 4.5 bits for each active weight but those of routers, norms and biases, which are float32.
    for config in (lite(), r1_slice()):
        counted = count_parameters(config)
        plain = sum(int(np.prod(t.shape)) for t in tensors(config, "q4_0") if t.kind.name == "F32")
        expected = (counted.model.active - plain) * 4.5 / 8 + plain * 4
        assert (
            active_bytes(config, "q4_0") == active_bytes(config, "q4_k") == pytest.approx(expected, rel=1e-9)
        )


@pytest.mark.parametrize("quantisation", QUANTISATIONS)
def test_what_is_written_can_be_read(tmp_path: Path, config: ModelConfig, quantisation: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(config, quantisation, path)
    reader = GGUFReader(path)
    wanted = {tensor.name: tensor for tensor in tensors(config, quantisation)}
    assert [tensor.name for tensor in reader.tensors] == list(wanted)
    for tensor in reader.tensors:
        assert tuple(reversed(tensor.shape.tolist())) == wanted[tensor.name].shape
        assert tensor.tensor_type == wanted[tensor.name].kind
        values = dequantize(tensor.data, tensor.tensor_type)
        if values.ndim > 1:
            rms = EMBEDDING_RMS if "token_embd" in tensor.name else values.shape[-1] ** -0.5
            assert np.sqrt(np.mean(values**2)) == pytest.approx(rms, rel=0.1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_says_what_the_model_is(tmp_path: Path, config: ModelConfig) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(config, "q4_0", path)
    fields = {name: field.contents() for name, field in GGUFReader(path).fields.items()}
    expected = {
        "vocab_size": config.vocab_size,
        "block_count": 3,
        "leading_dense_block_count": 1,
        "attention.key_length": config.latent_dim,
        "attention.value_length": config.kv_lora_rank,
        "attention.key_length_mla": config.qk_head_dim,
        "attention.q_lora_rank": config.q_lora_rank,
        "expert_gating_func": 2,  # sigmoid
        "expert_group_count": config.n_group,
        "expert_weights_scale": config.routed_scaling_factor,
        "rope.scaling.type": "yarn",
        "rope.scaling.yarn_log_multiplier": pytest.approx(0.1),
    }
    assert {key: fields[f"deepseek2.{key}"] for key in expected} == expected


def test_the_rows_of_a_router_have_equal_norm(tmp_path: Path, config: ModelConfig) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(config, "q4_0", path)
    (router,) = (tensor for tensor in GGUFReader(path).tensors if tensor.name == "blk.1.ffn_gate_inp.weight")
    assert np.linalg.norm(router.data, axis=1) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q4_K"])
def test_random_blocks_have_the_size_asked_for_and_no_mean(kind: str) -> None:
    quantisation = GGMLQuantizationType[kind]
    blocks = random_blocks(quantisation, 1 << 20, rms=0.02, rng=np.random.default_rng(0))
    values = dequantize(blocks, quantisation)
    assert np.sqrt(np.mean(values**2)) == pytest.approx(0.02, rel=0.01)
    # Six standard errors, each block taken as one draw since its scale is.
    assert abs(values.mean()) < 6 * 0.02 / np.sqrt(len(blocks))
    assert 0.4 < (values > 0).mean() < 0.6


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(AraioError, match=r"needs 0\.0 GB, and its disk has 0\.0 GB left"):
        write_gguf(config, "q4_0", tmp_path / "tiny.gguf")
    assert not list(tmp_path.iterdir())


def test_a_file_is_written_once(tmp_path: Path, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "tiny", lambda: config)
    path = gguf_file("tiny", "q4_0", tmp_path / "models")
    written = path.stat().st_mtime_ns
    assert gguf_file("tiny", "q4_0", tmp_path / "models") == path
    assert path.stat().st_mtime_ns == written
