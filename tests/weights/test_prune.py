"""A smaller checkpoint of a profile's experts: logits of the whole one with a mask, and the same bytes."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import araio
from araio.config import ModelConfig
from araio.errors import CheckpointError, ProfileError
from araio.expert_profile import ExpertProfile, ProfiledModel
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import main_tensors
from araio.formats.store_layout import StoreCodecs
from araio.formats.write import write_checkpoint
from araio.kernels.widen import widen
from araio.nn.identity import router_fingerprint
from araio.nn.mask import ExpertMask
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import prune
from araio.weights.convert import convert
from araio.weights.load import load_model
from araio.weights.locate import locate
from araio.weights.prune import PROFILE_NAME, export, exported_bytes

# Of each family, how many experts of each group are kept. They are of both kinds of router, with groups and
# without, and one is FP8.
FAMILIES = {"v2-lite": 5, "v2": 3, "v3": 3, "v3-fp8": 1, "moonlight": 9}


def profile_for(folder, per_group, *, mtp=True, seed=3, name="half"):
    """One that keeps so many experts of each group, other ones in each layer."""
    model = load_model(folder)
    config = model.config
    rng, size = np.random.default_rng(seed), config.n_routed_experts // config.n_group

    def some():
        groups = range(0, config.n_routed_experts, size)
        return sorted(int(start + i) for start in groups for i in rng.choice(size, per_group, replace=False))

    kept = {layer: some() for layer in [*config.moe_layers, config.num_hidden_layers]}
    own = kept.pop(config.num_hidden_layers)
    profiled = ProfiledModel.of("tiny", config, router_fingerprint(model))
    return ExpertProfile(name, profiled, kept, own if mtp and config.mtp_layers else None)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    """A checkpoint, a profile of it, and what was exported."""
    folder = tmp_path_factory.mktemp(request.param)
    source, target = folder / "whole", folder / "cut"
    # FP8 blocks leave this family 2 experts in each of its 4 groups; a sigmoid router needs both.
    overrides = {"n_group": 1, "topk_group": 1} if request.param == "v3-fp8" else {}
    write_tiny_checkpoint(source, request.param, seed=5, **overrides)
    per_group = 6 if overrides else FAMILIES[request.param]
    profile = profile_for(source, per_group)
    exported = export(source, target, profile)
    return SimpleNamespace(source=source, target=target, profile=profile, exported=exported)


def some_ids(folder, count=40):
    config = ModelConfig.from_file(folder)
    return np.random.default_rng(count).integers(0, config.vocab_size, count)


def test_the_whole_model_with_the_mask_gives_the_logits_of_what_was_exported(pair):
    whole, cut = load_model(pair.source), load_model(pair.target)
    ids, mask = some_ids(pair.source), ExpertMask(pair.profile)
    masked = whole.logits(whole.forward(ids, whole.new_cache("float32"), mask=mask))
    smaller = cut.logits(cut.forward(ids, cut.new_cache("float32")))
    np.testing.assert_allclose(smaller, masked, rtol=0, atol=1e-5)
    unmasked = whole.logits(whole.forward(ids, whole.new_cache("float32")))
    assert np.abs(masked - unmasked).max() > 0.01


def test_transformers_gives_the_same_logits_for_what_was_exported(pair):
    whole = load_model(pair.source)
    ids, mask = some_ids(pair.source), ExpertMask(pair.profile)
    masked = whole.logits(whole.forward(ids, whole.new_cache("float32"), mask=mask))
    np.testing.assert_allclose(transformers_logits(pair.target, ids), masked, rtol=0, atol=1e-4)


def transformers_logits(folder, ids):
    """FP8 is widened by us: transformers reads no matrices that are not multiples of the block."""
    config = ModelConfig.from_file(folder)
    if config.quantization_config is not None:
        document = config.to_dict()
        del document["quantization_config"]
        oracle = folder.parent / "oracle"
        with Checkpoint.open(folder) as checkpoint:
            tensors = ((name, widen(checkpoint.read_weight(name))) for name in dict(main_tensors(config)))
            write_checkpoint(oracle, tensors)
        (oracle / "config.json").write_text(json.dumps(document))
        folder = oracle
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model.eval()(torch.from_numpy(ids)[None]).logits[0].numpy()


def test_bytes_are_those_of_the_original(pair):
    whole, cut = Checkpoint.open(pair.source), Checkpoint.open(pair.target)
    kept = {**pair.profile.keep}
    if pair.profile.mtp is not None:
        kept[ModelConfig.from_file(pair.source).num_hidden_layers] = pair.profile.mtp
    for name in cut:
        stored = raw(cut, name)
        if (found := prune_name(name)) is None:
            expected = raw(whole, name)
        elif found[1] is None:
            expected = raw(whole, name)[list(kept[found[0]])]
        else:
            layer, expert = found
            expected = raw(whole, name.replace(f"experts.{expert}.", f"experts.{kept[layer][expert]}."))
        np.testing.assert_array_equal(stored, expected)
    assert pair.exported.bytes < pair.exported.source_bytes


def raw(checkpoint, name):
    return next(file for file in checkpoint.files if name in file).read(name)


def prune_name(name):
    """Layer and expert of a tensor that is cut or renamed; no expert for a router."""
    parts = name.split(".")
    if ".mlp.experts." in name:
        return int(parts[2]), int(parts[5])
    return (int(parts[2]), None) if ".mlp.gate." in name else None


def test_the_bytes_can_be_told_before(pair):
    whole, cut = exported_bytes(pair.source, pair.profile)
    for folder, expected in ((pair.source, whole), (pair.target, cut)):
        with Checkpoint.open(folder) as checkpoint:
            assert sum(entry.end - entry.begin for entry in checkpoint.values()) == expected


def test_the_config_counts_what_is_left(pair):
    whole = json.loads((pair.source / "config.json").read_text())
    cut = json.loads((pair.target / "config.json").read_text())
    left = len(next(iter(pair.profile.keep.values())))
    assert cut == {**whole, "n_routed_experts": left}
    assert (pair.exported.experts, pair.exported.source_experts) == (left, whole["n_routed_experts"])
    assert pair.exported.has_mtp == bool(whole.get("num_nextn_predict_layers"))


def test_what_lies_beside_the_weights_comes_along(pair):
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (pair.target / name).read_bytes() == (pair.source / name).read_bytes()
    assert ExpertProfile.from_file(pair.target / PROFILE_NAME) == pair.profile
    assert f"(id {pair.profile.id})" in (pair.target / "README.md").read_text()
    assert not list(pair.target.parent.glob("*.partial"))


def test_classes_that_the_config_names_come_along(tiny, tmp_path):
    (tiny / "modeling_own.py").write_text("# a class")
    (tiny / "LICENSE-MODEL").write_text("terms")
    export(tiny, tmp_path / "cut", profile_for(tiny, 3))
    assert (tmp_path / "cut" / "modeling_own.py").read_text() == "# a class"
    assert (tmp_path / "cut" / "LICENSE-MODEL").read_text() == "terms"


@pytest.fixture
def tiny(tmp_path):
    write_tiny_checkpoint(tmp_path / "tiny", "v3")
    return tmp_path / "tiny"


def test_without_a_choice_for_the_prediction_module_it_is_left_out(tiny, tmp_path):
    exported = export(tiny, tmp_path / "cut", profile_for(tiny, 3, mtp=False))
    assert not exported.has_mtp
    assert ModelConfig.from_file(tmp_path / "cut").num_nextn_predict_layers == 0
    with Checkpoint.open(tmp_path / "cut") as checkpoint:
        assert not [name for name in checkpoint if name.startswith("model.layers.3.")]
    assert load_model(tmp_path / "cut").mtp is None


def test_the_prediction_module_drafts_with_its_own_experts(tiny, tmp_path):
    export(tiny, tmp_path / "cut", profile_for(tiny, 3))
    cut = load_model(tmp_path / "cut")
    hidden = cut.forward(some_ids(tiny), cut.new_cache())
    assert cut.mtp is not None
    assert np.isfinite(cut.mtp.forward(some_ids(tiny), hidden, cut.mtp.new_cache())).all()


def test_a_checkpoint_without_the_module_that_its_config_names(tiny, tmp_path):
    kept = {}
    with Checkpoint.open(tiny) as checkpoint:
        for name in dict(main_tensors(ModelConfig.from_file(tiny))):
            kept[name] = checkpoint.read_weight(name)
    write_checkpoint(tiny, kept.items())
    assert not export(tiny, tmp_path / "cut", profile_for(tiny, 3)).has_mtp
    assert ModelConfig.from_file(tmp_path / "cut").num_nextn_predict_layers == 0


def test_progress_ends_with_all_of_it(tiny, tmp_path):
    seen = []
    exported = export(tiny, tmp_path / "cut", profile_for(tiny, 2), lambda *amounts: seen.append(amounts))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] <= exported.bytes


# ---------------------------------------------------------------------- what is refused


def refused(source, target, profile, kind, message):
    with pytest.raises(kind, match=message):
        export(source, target, profile)
    assert not list(target.parent.glob(target.name + "*.partial"))


def test_unequal_groups(tiny, tmp_path):
    profile = profile_for(tiny, 3)
    keep = dict(profile.keep) | {1: profile.keep[1][:-1]}
    unequal = ExpertProfile("unequal", profile.model, keep)
    refused(tiny, tmp_path / "cut", unequal, ProfileError, "'unequal' keeps unequal numbers of experts")
    assert not (tmp_path / "cut").exists()
    assert exported_bytes(tiny, unequal) is None


def test_a_profile_of_another_model(tiny, tmp_path):
    write_tiny_checkpoint(tmp_path / "other", "v3", seed=9)
    refused(tmp_path / "other", tmp_path / "cut", profile_for(tiny, 3), ProfileError, "was made for tiny")


def test_a_target_that_is_there(tiny, tmp_path):
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "mine").write_text("mine")
    refused(tiny, tmp_path / "cut", profile_for(tiny, 3), CheckpointError, "exists already")
    assert (tmp_path / "cut" / "mine").read_text() == "mine"


def test_a_store(tiny, tmp_path):
    convert(tiny, tmp_path / "store", StoreCodecs("q8", "q8", "q8"))
    refused(
        tmp_path / "store",
        tmp_path / "cut",
        profile_for(tiny, 3),
        CheckpointError,
        "is a store of `araio convert`",
    )


def test_a_disk_with_too_little_room(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(prune.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    refused(tiny, tmp_path / "cut", profile_for(tiny, 3), CheckpointError, "0 MB of the disk are free")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_an_export_that_fails(tiny, tmp_path, error):
    def fail(done, total):
        if done > total / 2:
            raise error

    expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        export(tiny, tmp_path / "cut", profile_for(tiny, 3), fail)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


# ---------------------------------------------------------------------- the bundled model


def test_pocket_at_three_quarters_answers(tmp_path):
    pocket = locate("pocket")
    exported = export(pocket, tmp_path / "cut", profile_for(pocket, 6, name="pocket-24"))
    assert (exported.experts, exported.source_experts) == (24, 32)
    assert exported.bytes < 0.85 * exported.source_bytes
    model = araio.load(tmp_path / "cut")
    answer = model.chat("What is 3 + 4?", temperature=0, max_tokens=200)
    assert answer.usage["completion_tokens"] > 0
    ids = model.tokenizer.encode("What is 3 + 4?")
    expected = model.network.logits(
        model.network.forward(np.asarray(ids), model.network.new_cache("float32"))
    )
    np.testing.assert_allclose(
        transformers_logits(tmp_path / "cut", np.asarray(ids)), expected, rtol=0, atol=1e-3
    )
