"""From a folder to a model: what is widened, what stays as stored, what is refused."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from araio.codecs import codec
from araio.errors import BudgetError, CheckpointError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import expected_tensors, main_tensors, stays_float32
from araio.formats.store_layout import StoreCodecs
from araio.formats.write import write_checkpoint
from araio.kernels import reference
from araio.kernels.ops import Ops
from araio.nn.attention import LowRankQuery
from araio.tensors import BFloat16, BlockFP8, Weight
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import load
from araio.weights.convert import convert
from araio.weights.load import Memory, load_model, open_model
from araio.weights.machine_memory import MachineMemory

IDS = np.arange(3, 20)


def test_bfloat16_is_widened_where_it_fits(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v2-lite")
    model = load_model(tmp_path, reference.OPS)
    assert isinstance(model.embed_tokens, np.ndarray)
    assert isinstance(model.lm_head.weight, np.ndarray)


@pytest.mark.parametrize("family", ["v2-lite", "v3"])
def test_bfloat16_stays_where_memory_is_short_and_gives_the_same_logits(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_checkpoint(tmp_path, family)
    wide = load_model(tmp_path, reference.OPS)
    monkeypatch.setattr(load, "_fits_as_float32", lambda *_: False)
    narrow = load_model(tmp_path, reference.OPS)
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
    model = load_model(tmp_path, reference.OPS)
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


def rewritten(folder: Path, change: Callable[[str, Weight], Weight]) -> None:
    with Checkpoint.open(folder) as checkpoint:
        stored = [name for name in checkpoint if not name.endswith("_scale_inv")]
        tensors = [(name, change(name, checkpoint.read_weight(name))) for name in stored]
    write_checkpoint(folder, tensors)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("model.layers.1.mlp.gate.e_score_correction_bias", np.nan),
        ("model.layers.1.mlp.gate.e_score_correction_bias", -np.inf),
        ("model.embed_tokens.weight", 0x7F80),
        ("model.embed_tokens.weight", 0xFF80),
        ("model.embed_tokens.weight", 0xFFC1),
        ("model.layers.1.mlp.experts.2.up_proj.weight", 0x7F),
        ("model.layers.1.mlp.experts.2.up_proj.weight", 0xFF),
    ],
)
def test_a_number_that_is_none_is_refused_with_file_and_tensor(
    tmp_path: Path, name: str, code: float
) -> None:
    write_tiny_checkpoint(tmp_path, "v3-fp8")

    def damage(at: str, weight: Weight) -> Weight:
        if at == name:
            numbers = weight.bits if isinstance(weight, BFloat16) else weight
            numbers = numbers.data if isinstance(numbers, BlockFP8) else numbers
            numbers.flat[-1] = code
        return weight

    rewritten(tmp_path, damage)
    with pytest.raises(CheckpointError, match=rf"model-.*\.safetensors: tensor '{name}' holds NaN"):
        load_model(tmp_path)


def test_the_largest_finite_codes_are_numbers(tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, "v3-fp8")

    def enlarge(_: str, weight: Weight) -> Weight:
        if isinstance(weight, BFloat16):
            weight.bits.flat[:2] = 0x7F7F, 0xFF7F
        elif isinstance(weight, BlockFP8):
            weight.data.flat[:2] = 0x7E, 0xFE
        return weight

    rewritten(tmp_path, enlarge)
    load_model(tmp_path)


def weights_take(folder: Path, ops: Ops, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Bytes of dense weights and of experts that a budget counts."""
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 0))
    whole = open_model(folder, ops).budget
    assert whole.slots is None
    return whole.dense, whole.experts


@pytest.mark.parametrize("widens", [True, False])
def test_a_budget_counts_weights_as_they_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, widens: bool
) -> None:
    config = write_tiny_checkpoint(tmp_path, "v2-lite")
    tensors = dict(main_tensors(config))
    plain = sum(math.prod(shape) for name, shape in tensors.items() if stays_float32(name, shape))
    numbers = sum(map(math.prod, tensors.values()))
    monkeypatch.setattr(load, "_fits_as_float32", lambda *_: widens)
    dense, experts = weights_take(tmp_path, reference.OPS, monkeypatch)
    assert dense + experts == (4 * numbers if widens else 2 * numbers + 2 * plain)


def test_what_would_not_fit_widened_is_not_widened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_checkpoint(tmp_path, "v2-lite")
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 0))
    wide = open_model(tmp_path, reference.OPS).budget
    assert isinstance(open_model(tmp_path, reference.OPS).network.embed_tokens, np.ndarray)
    smaller = open_model(tmp_path, reference.OPS, Memory(ram=wide.whole - 1))
    assert smaller.experts is None
    assert smaller.budget.whole < wide.whole
    assert isinstance(smaller.network.embed_tokens, BFloat16)


def test_too_little_memory_is_refused_before_a_weight_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_checkpoint(tmp_path, "v2-lite")
    smallest = open_model(tmp_path, reference.OPS).budget.smallest
    assert open_model(tmp_path, reference.OPS, Memory(ram=2 * smallest)).budget.ram == 2 * smallest
    monkeypatch.setattr(Checkpoint, "read_weight", None)
    with pytest.raises(BudgetError, match=r"iB of memory are too few: .* [MG]iB are the least that works"):
        open_model(tmp_path, reference.OPS, Memory(ram=smallest // 2))


@pytest.mark.parametrize("columns", [32, 64])
def test_fp8_in_blocks_that_are_held_as_float32_needs_their_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    quantization = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [64, 32],
    }
    config = write_tiny_checkpoint(
        tmp_path, "v3-fp8", quantization_config=quantization, num_nextn_predict_layers=0
    )
    stored = held = 0
    with Checkpoint.open(tmp_path, (64, 32)) as checkpoint:
        for name, shape in expected_tensors(config).items():
            kept = checkpoint.codec(name)
            stored += kept.bytes(shape)
            held += (codec("f32") if kept.name == "fp8" else kept).bytes(shape)
            if kept.name == "bf16" and stays_float32(name, shape):
                stored += kept.bytes(shape)
                held += kept.bytes(shape)
    assert held > 2 * stored
    monkeypatch.setattr(load, "_fits_as_float32", lambda *_: False)
    ops = replace(reference.OPS, fp8_columns=columns)
    budget = open_model(tmp_path, ops).budget
    assert budget.dense + budget.experts == (held if columns > 32 else stored)
    memory = Memory(ram=budget.whole - (1 << 20))
    if columns > 32:
        with pytest.raises(CheckpointError, match="FP8 blocks of a size that is not computed with"):
            open_model(tmp_path, ops, memory)
    else:
        assert open_model(tmp_path, ops, memory).experts is not None


@pytest.mark.parametrize("family", ["v2-lite", "v3", "v3-fp8"])
def test_a_store_computes_what_its_source_does(tmp_path: Path, family: str) -> None:
    write_tiny_checkpoint(tmp_path / "model", family)
    convert(tmp_path / "model", tmp_path / "store", StoreCodecs("f32", "f32", "f32"))
    model, store = load_model(tmp_path / "model"), load_model(tmp_path / "store")
    np.testing.assert_allclose(
        store.logits(store.forward(IDS, store.new_cache())),
        model.logits(model.forward(IDS, model.new_cache())),
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize(("name", "most"), [("q8", 0.05), ("q4", 0.6)])
def test_a_quantised_store_computes_nearly_what_its_source_does(
    tmp_path: Path, name: str, most: float
) -> None:
    write_tiny_checkpoint(tmp_path / "model", "v2-lite")
    convert(tmp_path / "model", tmp_path / "store", StoreCodecs(name, name, name))
    # One token: in a random model a router that changes its mind would drown everything else.
    logits = []
    for folder in ("model", "store"):
        model = load_model(tmp_path / folder, reference.OPS)
        logits.append(model.logits(model.forward(IDS[:1], model.new_cache())))
    exact, found = logits
    assert np.abs(found - exact).max() < most * np.abs(exact).max()


def test_a_store_needs_the_memory_of_its_codecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_tiny_checkpoint(tmp_path / "model", "v2-lite")
    codecs = StoreCodecs("q4", "q8", "bf16")
    convert(tmp_path / "model", tmp_path / "store", codecs)
    needed = sum(codecs.of(name, shape, (128, 128)).bytes(shape) for name, shape in main_tensors(config))
    monkeypatch.setattr(load, "_fits_as_float32", lambda *_: False)
    assert sum(weights_take(tmp_path / "store", reference.OPS, monkeypatch)) == needed
