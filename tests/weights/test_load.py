"""From a folder to a model: what is widened, what stays as stored, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from araio.errors import CheckpointError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import main_tensors
from araio.formats.write import write_checkpoint
from araio.nn.attention import LowRankQuery
from araio.tensors import BFloat16, BlockFP8
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import load
from araio.weights.load import load_model

IDS = np.arange(3, 20)


def test_bfloat16_is_widened_where_it_fits(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v2-lite")
    model = load_model(tmp_path)
    assert isinstance(model.embed_tokens, np.ndarray)
    assert isinstance(model.lm_head.weight, np.ndarray)


@pytest.mark.parametrize("family", ["v2-lite", "v3"])
def test_bfloat16_stays_where_memory_is_short_and_gives_the_same_logits(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_checkpoint(tmp_path, family)
    wide = load_model(tmp_path)
    monkeypatch.setattr(load, "_fits_as_float32", lambda _: False)
    narrow = load_model(tmp_path)
    assert isinstance(narrow.embed_tokens, BFloat16)
    for router in narrow.routers:
        assert isinstance(router.weight, np.ndarray)
    np.testing.assert_allclose(
        narrow.logits(narrow.forward(IDS, narrow.new_cache())),
        wide.logits(wide.forward(IDS, wide.new_cache())),
        rtol=0,
        atol=1e-4,
    )


def test_fp8_is_kept_where_it_is_stored(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v3-fp8")
    model = load_model(tmp_path)
    attention = model.layers[0].self_attn
    assert isinstance(attention.kv_b_proj, BlockFP8)
    assert isinstance(attention.o_proj.weight, BlockFP8)
    assert isinstance(attention.q_proj, LowRankQuery)
    assert model.mtp is not None
    assert isinstance(model.mtp.eh_proj.weight, np.ndarray)


def test_a_checkpoint_saved_without_its_mtp_layer_loads_without_one(tmp_path: Path) -> None:
    config = write_tiny_checkpoint(tmp_path, "v3")
    with Checkpoint.open(tmp_path) as checkpoint:
        tensors = [(name, checkpoint.read_weight(name)) for name in dict(main_tensors(config))]
    write_checkpoint(tmp_path, tensors)
    model = load_model(tmp_path)
    assert config.num_nextn_predict_layers == 1
    assert (model.mtp, model.config.num_nextn_predict_layers) == (None, 0)


def test_a_checkpoint_of_another_shape_is_refused_before_it_is_read(tmp_path: Path) -> None:
    config = write_tiny_checkpoint(tmp_path, "v2")
    document = config.to_dict() | {"moe_intermediate_size": 25}
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="gate_proj"):
        load_model(tmp_path)
