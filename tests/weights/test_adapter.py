"""Tuned experts in place of a model's own: the bits of a model whose tensors were replaced by hand."""

import json
import shutil

import numpy as np
import pytest

import araio
from araio.errors import AdapterError
from araio.formats.checkpoint import Checkpoint
from araio.formats.store_layout import StoreCodecs
from araio.formats.write import write_checkpoint
from araio.kernels.select import select
from araio.testing.adapters import write_adapter
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import load
from araio.weights.adapter import Adapter
from araio.weights.convert import convert
from araio.weights.load import Memory, open_model
from araio.weights.machine_memory import MachineMemory

EXPERTS = {1: (0, 3), 2: (5,)}
IDS = np.random.default_rng(1).integers(0, 250, 24)
Q4 = StoreCodecs("q4", "q8", "q8")


def scores(folder, adapter=None, **memory):
    loaded = open_model(folder, select().ops, Memory(**memory), adapter)
    network = loaded.network
    return network.logits(network.forward(IDS, network.new_cache())), loaded


def replaced_by_hand(source, target, tensors):
    """A copy of a checkpoint with these tensors in place of its own."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    with Checkpoint.open(source) as checkpoint:
        kept = [
            (name, tensors.get(name) or checkpoint.read_weight(name))
            for name in checkpoint
            if not name.endswith("_scale_inv")
        ]
    write_checkpoint(target, kept)


@pytest.fixture(scope="module", params=["v2-lite", "v3"])
def models(request, tmp_path_factory):
    """A checkpoint, an adapter of it, and the checkpoint that has the adapter's tensors."""
    home = tmp_path_factory.mktemp(request.param)
    write_tiny_checkpoint(home / "own", request.param)
    tensors = write_adapter(home / "tuned", home / "own", EXPERTS)
    replaced_by_hand(home / "own", home / "replaced", tensors)
    return home


def test_an_adapter_gives_the_bits_of_replaced_tensors(models):
    adapter = Adapter.open(models / "tuned")
    found, _ = scores(models / "own", adapter)
    np.testing.assert_array_equal(found, scores(models / "replaced")[0])
    assert np.abs(found - scores(models / "own")[0]).max() > 0


def test_experts_from_disk_are_those_of_the_adapter(models, monkeypatch):
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20))
    adapter = Adapter.open(models / "tuned")
    ram, expected = open_model(models / "own").budget.whole, scores(models / "replaced")[0]
    found, loaded = scores(models / "own", adapter, ram=ram - 1)
    while loaded.experts is None:  # widened weights give way first
        ram = loaded.budget.whole
        found, loaded = scores(models / "own", adapter, ram=ram - 1)
    np.testing.assert_array_equal(found, expected)


def test_a_store_takes_tuned_experts_in_its_own_bits(models, tmp_path):
    convert(models / "own", tmp_path / "own", Q4)
    convert(models / "replaced", tmp_path / "replaced", Q4)
    adapter = Adapter.open(models / "tuned")
    expected = scores(tmp_path / "replaced")[0]
    np.testing.assert_array_equal(scores(tmp_path / "own", adapter)[0], expected)
    convert(models / "own", tmp_path / "merged", Q4, adapter=adapter)
    np.testing.assert_array_equal(scores(tmp_path / "merged")[0], expected)
    assert json.loads((tmp_path / "merged" / "adapter.json").read_text())["name"] == "tuned"


def test_a_store_with_experts_on_disk_says_how_to_put_them_together(models, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20))
    convert(models / "own", tmp_path / "own", Q4)
    budget = open_model(tmp_path / "own").budget
    with pytest.raises(AdapterError, match=r"with `araio convert MODEL OUT --quant CODEC --adapter ADAPTER`"):
        open_model(
            tmp_path / "own", memory=Memory(ram=budget.smallest), adapter=Adapter.open(models / "tuned")
        )


def test_fp8_experts_stay_fp8(tmp_path):
    write_tiny_checkpoint(tmp_path / "own", "v3-fp8")
    write_adapter(tmp_path / "tuned", tmp_path / "own", {1: (2,)})
    adapter = Adapter.open(tmp_path / "tuned")
    assert adapter.stored_as == "fp8"
    found, _ = scores(tmp_path / "own", adapter)
    assert np.abs(found - scores(tmp_path / "own")[0]).max() > 0


def test_a_loaded_model_says_whose_experts_it_has(models):
    model = araio.load(models / "own", adapter=models / "tuned")
    assert model.label == f"{models / 'own'} + tuned"
    assert model.chat("hello", max_tokens=2).receipt.model == model.label
    assert model.fingerprint == araio.load(models / "own").fingerprint


# ------------------------------------------------------------------ refusals


def test_another_models_adapter_is_refused_by_name(models, tmp_path):
    adapter = Adapter.open(models / "tuned")
    write_tiny_checkpoint(tmp_path / "seed", "v2-lite" if adapter.model.n_group == 1 else "v3", seed=9)
    with pytest.raises(AdapterError, match=r"adapter 'tuned' was made for tiny, whose fingerprint = "):
        open_model(tmp_path / "seed", adapter=adapter)
    write_tiny_checkpoint(tmp_path / "family", "moonlight")
    with pytest.raises(AdapterError, match=r"whose n_\w+ = \d+; this model has \d+"):
        open_model(tmp_path / "family", adapter=adapter)


def test_a_model_whose_experts_were_tuned_before_is_refused(models):
    with pytest.raises(AdapterError, match="was made of other experts than this model has"):
        open_model(models / "replaced", adapter=Adapter.open(models / "tuned"))


def test_experts_of_another_size_are_refused(models, tmp_path):
    adapter = Adapter.open(models / "tuned")
    family = "v2-lite" if adapter.model.n_group == 1 else "v3"
    # The seed decides a tensor by its name, so that the routers are the same.
    write_tiny_checkpoint(tmp_path / "wide", family, moe_intermediate_size=32)
    with pytest.raises(AdapterError, match=r"expected BF16 or F32 \[32, 64\]"):
        open_model(tmp_path / "wide", adapter=adapter)


@pytest.fixture
def copy(models, tmp_path):
    shutil.copytree(models / "tuned", tmp_path / "copy")
    return tmp_path / "copy"


def changed(folder, **changes):
    path = folder / "adapter.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "araio-profile"}, "format is 'araio-profile'; expected araio-adapter"),
        ({"version": 2}, "version is 2; expected an integer from 1 to 1"),
        ({"name": "a b"}, "an adapter's name is 'a b'"),
        ({"experts": {"1": [3, 0]}}, r"names experts \[3, 0\] in layer 1; expected ascending"),
        ({"experts": {"0": [1]}}, r"in layer 0; expected ascending numbers below \d+ in layers of \[1, 2\]"),
        ({"experts": {"1": [99]}}, r"names experts \[99\]"),
        ({"experts": {}}, "names no experts"),
        ({"experts": {"1": [0, 3]}}, r"adapter.json and it do not agree on tensor 'model.layers.2"),
        ({"colour": "red"}, "'colour' .*is not known"),
        ({"replaces": None}, "replaces is None; expected an object"),
        ({"sha256": "0" * 64}, "is not what adapter.json says it is"),
    ],
)
def test_a_damaged_document_is_refused(copy, changes, message):
    changed(copy, **changes)
    with pytest.raises(AdapterError, match=message):
        Adapter.open(copy)


def test_a_cut_or_changed_file_is_refused(copy):
    path = copy / "experts.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AdapterError, match="its SHA-256 differs"):
        Adapter.open(copy)
    path.write_bytes(content[:-9])
    with pytest.raises(AdapterError, match="tune again"):
        Adapter.open(copy)
    path.unlink()
    with pytest.raises(AdapterError, match=r"experts\.safetensors: cannot be opened"):
        Adapter.open(copy)


def test_a_folder_that_is_no_adapter_is_refused(models):
    with pytest.raises(AdapterError, match=r"holds no adapter\.json, so it is no adapter"):
        Adapter.open(models / "own")


def test_an_adapter_replaces_nothing_and_leaves_nothing(models, tmp_path):
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(AdapterError, match="exists already"):
        write_adapter(target, models / "own", EXPERTS)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_esft_reads_which_experts_they_are(models):
    assert json.loads((models / "tuned" / "expert_cfg.json").read_text()) == {
        "experts": {"1": [0, 3], "2": [5]},
        "shared_experts": False,
        "non_expert_modules": False,
    }
