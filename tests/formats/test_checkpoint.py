"""Folders of shards: complete, contradictory and hostile, held against a config."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from araio.config import ModelConfig, QuantizationConfig
from araio.errors import CheckpointError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import can_be_fp8, expected_tensors, main_tensors, optional_tensors
from araio.formats.shards import INDEX_NAME
from araio.formats.write import write_checkpoint
from araio.tensors import BFloat16, BlockFP8

BLOCK = (4, 4)
CONFIG = ModelConfig(
    model_type="deepseek_v3",
    vocab_size=11,
    hidden_size=6,
    intermediate_size=10,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=64,
    q_lora_rank=5,
    kv_lora_rank=3,
    qk_nope_head_dim=4,
    qk_rope_head_dim=2,
    v_head_dim=3,
    moe_intermediate_size=7,
    n_routed_experts=4,
    n_shared_experts=1,
    num_experts_per_tok=2,
    first_k_dense_replace=1,
    topk_method="noaux_tc",
    scoring_func="sigmoid",
    num_nextn_predict_layers=1,
    quantization_config=QuantizationConfig(BLOCK),
)
UP, DOWN = "model.layers.1.mlp.experts.3.up_proj.weight", "model.layers.1.mlp.experts.3.down_proj.weight"
GATE = "model.layers.1.mlp.gate.weight"


def scale_shape(shape):
    return -(-shape[0] // BLOCK[0]), -(-shape[1] // BLOCK[1])


def tensors_of(config=CONFIG, fp8=False):
    """Every expected tensor, projections as FP8 if asked."""
    shapes = expected_tensors(config)
    return {
        name: BlockFP8(np.ones(shape, np.uint8), np.ones(scale_shape(shape), np.float32), BLOCK)
        if fp8 and can_be_fp8(name)
        else np.ones(shape, np.float32)
        for name, shape in shapes.items()
    }


def checked(folder: Path, tensors, config=CONFIG, max_shard_bytes=4000):
    write_checkpoint(folder, tensors.items(), max_shard_bytes)
    with Checkpoint.open(folder, BLOCK) as checkpoint:
        checkpoint.check(config)
        for name in expected_tensors(config):
            if name in checkpoint:
                checkpoint.read_weight(name)
    return True


def refused(folder: Path, tensors, message: str, config=CONFIG):
    with pytest.raises(CheckpointError, match=message):
        checked(folder, tensors, config)


# ---------------------------------------------------------------------- what fits


@pytest.mark.parametrize("fp8", [False, True], ids=["float32", "fp8"])
def test_complete(tmp_path, fp8):
    assert checked(tmp_path, tensors_of(fp8=fp8))


def test_shared_copies_and_old_buffers_may_be_there(tmp_path):
    copies = {name: np.ones(shape, np.float32) for name, shape in optional_tensors(CONFIG).items()}
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(1, np.float32)}
    assert len(copies) == 2
    assert checked(tmp_path, tensors_of() | copies | buffer)


def test_an_mtp_layer_may_be_absent_but_not_half_there(tmp_path):
    main = {name: np.ones(shape, np.float32) for name, shape in main_tensors(CONFIG)}
    assert checked(tmp_path, main)
    with Checkpoint.open(tmp_path) as checkpoint:
        assert not checkpoint.holds_mtp(CONFIG)
    refused(
        tmp_path,
        main | {"model.layers.2.enorm.weight": np.ones(6, np.float32)},
        r"layers\.2\.hnorm.*and more",
    )


def test_a_weight_and_its_scale_in_two_shards(tmp_path):
    write_checkpoint(tmp_path, tensors_of(fp8=True).items())
    with Checkpoint.open(tmp_path, BLOCK) as whole:
        pieces = [(name, file.read(name)) for file in whole.files for name in file]
    # Every tensor in a shard of its own, scales last.
    bits = [(name, BFloat16(a) if a.dtype == np.uint16 else a) for name, a in pieces if a.dtype != np.uint8]
    folder = tmp_path / "split"
    write_checkpoint(folder, bits, max_shard_bytes=1)
    index = json.loads((folder / INDEX_NAME).read_text())
    for number, (name, array) in enumerate((n, a) for n, a in pieces if a.dtype == np.uint8):
        shard = f"fp8-{number}.safetensors"
        header = {name: {"dtype": "F8_E4M3", "shape": list(array.shape), "data_offsets": [0, array.nbytes]}}
        text = json.dumps(header).encode()
        (folder / shard).write_bytes(len(text).to_bytes(8, "little") + text + array.tobytes())
        index["weight_map"][name] = shard
    (folder / INDEX_NAME).write_text(json.dumps(index))
    with Checkpoint.open(folder, BLOCK) as checkpoint:
        checkpoint.check(CONFIG)
        assert not any(UP in file and UP + "_scale_inv" in file for file in checkpoint.files)
        weight = checkpoint.read_weight(UP)
    assert isinstance(weight, BlockFP8)
    assert weight.block == BLOCK


# ---------------------------------------------------------------------- what does not fit the config


def test_missing(tmp_path):
    tensors = tensors_of()
    del tensors[UP]
    refused(tmp_path, tensors, f"{tmp_path}: config.json calls for tensor '{UP}', not stored here")
    refused(tmp_path, {"model.norm.weight": np.ones(6, np.float32)}, r"'model.embed_tokens.weight'.*and more")


def test_a_config_that_calls_for_millions_of_names_is_answered_at_once(tmp_path):
    absurd = replace(CONFIG, n_routed_experts=65_536, num_hidden_layers=4096)
    refused(tmp_path, {"model.norm.weight": np.ones(6, np.float32)}, "and more", absurd)


def test_extra(tmp_path):
    refused(
        tmp_path,
        tensors_of() | {"model.layers.9.x": np.ones(1, np.float32)},
        r"holds tensor 'model\.layers\.9\.x'",
    )
    refused(tmp_path, tensors_of() | {UP + "_scale_inv": np.ones((2, 2), np.float32)}, "_scale_inv")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (UP, np.ones((6, 7), np.float32), rf"model-.*safetensors: tensor '{UP}' has shape \[6, 7\]"),
        (GATE, np.ones((5, 6), np.float32), r"has shape \[5, 6\]; config.json calls for \[4, 6\]"),
        (GATE, BlockFP8(np.ones((4, 6), np.uint8), np.ones((1, 2), np.float32), BLOCK), "F8_E4M3; expected"),
        (
            "lm_head.weight",
            BlockFP8(np.ones((11, 6), np.uint8), np.ones((3, 2), np.float32), BLOCK),
            "F8_E4M3",
        ),
    ],
)
def test_wrong_shapes_and_types(tmp_path, name, value, message):
    refused(tmp_path, tensors_of() | {name: value}, message)


def test_scales(tmp_path):
    wrong_block = BlockFP8(np.ones((7, 6), np.uint8), np.ones((1, 1), np.float32), (128, 128))
    refused(tmp_path, tensors_of() | {UP: wrong_block}, r"_scale_inv' is F32 \[1, 1\]; expected F32 \[2, 2\]")
    for scale in (0.0, -1.0, np.nan, np.inf):
        bad = BlockFP8(np.ones((7, 6), np.uint8), np.full((2, 2), scale, np.float32), BLOCK)
        refused(
            tmp_path,
            tensors_of() | {UP: bad},
            "_scale_inv' holds (a scale that is not a positive number|NaN or infinity)",
        )


def test_a_scale_that_is_missing(tmp_path):
    write_checkpoint(tmp_path, tensors_of(fp8=True).items())
    shard = next(tmp_path.glob("*.safetensors"))
    renamed = shard.read_bytes().replace(f'"{UP}_scale_inv"'.encode(), f'"{UP}_scale_xxx"'.encode())
    shard.write_bytes(renamed)
    index = tmp_path / INDEX_NAME
    index.write_text(index.read_text().replace(f"{UP}_scale_inv", f"{UP}_scale_xxx"))
    with Checkpoint.open(tmp_path, BLOCK) as checkpoint:
        with pytest.raises(CheckpointError, match=f"'{UP}' is FP8, but its scales .* are missing"):
            checkpoint.read_weight(UP)
        with pytest.raises(CheckpointError, match="_scale_xxx"):
            checkpoint.check(CONFIG)


@pytest.mark.parametrize(
    "value",
    [
        np.full((7, 6), np.nan, np.float32),
        np.full((7, 6), np.inf, np.float32),
        BFloat16(np.full((7, 6), 0x7FC0, np.uint16)),
        BFloat16(np.full((7, 6), 0xFF80, np.uint16)),
        BlockFP8(np.full((7, 6), 0x7F, np.uint8), np.ones((2, 2), np.float32), BLOCK),
        BlockFP8(np.full((7, 6), 0xFF, np.uint8), np.ones((2, 2), np.float32), BLOCK),
    ],
)
def test_values_that_are_not_numbers(tmp_path, value):
    refused(tmp_path, tensors_of() | {UP: value}, rf"model-.*: tensor '{UP}' holds NaN or infinity")


def test_reading_what_is_not_there_or_not_that(tmp_path):
    write_checkpoint(tmp_path, tensors_of(fp8=True).items())
    with Checkpoint.open(tmp_path, BLOCK) as checkpoint:
        with pytest.raises(CheckpointError, match=r"'no\.such' is missing"):
            checkpoint.read_weight("no.such")
        with pytest.raises(CheckpointError, match="stored as F8_E4M3"):
            checkpoint.read(UP)
