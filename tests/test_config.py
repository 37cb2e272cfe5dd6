"""config.json: published files round-trip, what transformers writes is read, everything else is refused."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.config import ModelConfig, QuantizationConfig, RopeScaling
from araio.costs.parameters import count_parameters
from araio.errors import ConfigError
from araio.weights.locate import PRESETS


def document(preset: str = "deepseek-r1", **changes: Any) -> dict[str, Any]:
    return json.loads(PRESETS[preset].read_text()) | changes


@pytest.mark.parametrize("preset", PRESETS)
def test_published_documents_round_trip_exactly(preset):
    published = json.loads(PRESETS[preset].read_text())
    written = ModelConfig.from_file(PRESETS[preset]).to_dict()
    assert json.dumps(written) == json.dumps(published)  # values, their types and the order of keys


@pytest.mark.parametrize("preset", PRESETS)
def test_fields_alone_write_an_equal_config(preset):
    config = ModelConfig.from_file(PRESETS[preset])
    assert ModelConfig.from_dict(replace(config, source={}).to_dict()) == config


def test_r1_is_read_key_by_key():
    config = ModelConfig.from_dict(document())
    assert config.rope_scaling == RopeScaling(40.0, 4096, 32.0, 1.0, 1.0, 1.0)
    assert config.quantization_config == QuantizationConfig((128, 128), None)
    assert (config.topk_method, config.scoring_func, config.n_group, config.topk_group) == (
        "noaux_tc",
        "sigmoid",
        8,
        4,
    )
    assert (config.moe_layers, config.mtp_layers) == (range(3, 61), range(61, 62))
    assert (config.latent_dim, config.qk_head_dim) == (576, 192)
    assert (config.bos_token_id, config.eos_token_id) == (0, (1,))
    assert config.has_router_bias
    assert [config.is_moe(layer) for layer in (2, 3, 61)] == [False, True, True]


def test_a_replaced_field_is_written_and_passive_keys_survive():
    shallow = replace(ModelConfig.from_dict(document()), num_hidden_layers=5)
    written = shallow.to_dict()
    assert written["num_hidden_layers"] == 5
    assert written["transformers_version"] == "4.46.3"
    assert ModelConfig.from_dict(written) == shallow


def test_the_document_is_copied_in_and_out():
    given_document = document()
    config = ModelConfig.from_dict(given_document)
    given_document["rope_scaling"]["factor"] = 1
    config.to_dict()["rope_scaling"]["factor"] = 2
    assert config.to_dict()["rope_scaling"]["factor"] == 40


def test_save_and_read_a_folder(tmp_path):
    config = ModelConfig.from_dict(document("moonlight-16b-a3b"))
    config.save(tmp_path / "config.json")
    assert ModelConfig.from_file(tmp_path) == config
    with pytest.raises(ConfigError, match="cannot be written"):
        config.save(tmp_path / "no" / "config.json")


# ---------------------------------------------------------------------- what transformers writes

YARN = {
    "rope_type": "yarn",
    "factor": 40,
    "original_max_position_embeddings": 128,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
}


def saved_by_transformers(name: str, folder: Any, **keys: Any) -> ModelConfig:
    transformers = pytest.importorskip("transformers")
    getattr(transformers, name)(max_position_embeddings=5120, **keys).save_pretrained(folder)
    return ModelConfig.from_file(folder)


def test_transformers_v3(tmp_path):
    config = saved_by_transformers(
        "DeepseekV3Config", tmp_path, rope_parameters=YARN | {"rope_theta": 50000.0}
    )
    assert config.rope_theta == 50000.0
    assert config.rope_scaling == RopeScaling(40.0, 128, 32.0, 1.0, 0.707, 0.707)
    assert (config.topk_method, config.scoring_func) == ("noaux_tc", "sigmoid")
    assert (config.n_group, config.topk_group, config.norm_topk_prob) == (8, 4, True)
    written = json.loads((tmp_path / "config.json").read_text())
    assert "rope_parameters" in written  # or this test no longer covers what it is for
    assert config.to_dict() == written


def test_transformers_v2(tmp_path):
    keys = {"num_experts_per_tok": 6, "q_lora_rank": None, "eos_token_id": [2, 3]}
    config = saved_by_transformers("DeepseekV2Config", tmp_path, **keys)
    assert (config.topk_method, config.n_group, config.norm_topk_prob) == ("greedy", 1, False)
    assert (config.rope_scaling, config.q_lora_rank, config.eos_token_id) == (None, None, (2, 3))


def test_transformers_fp8(tmp_path):
    transformers = pytest.importorskip("transformers")
    fp8 = transformers.FineGrainedFP8Config(weight_block_size=(64, 128))
    config = saved_by_transformers("DeepseekV3Config", tmp_path, quantization_config=fp8)
    assert config.quantization_config is not None
    assert config.quantization_config.weight_block_size == (64, 128)


# ---------------------------------------------------------------------- refusals

REFUSED = {
    "another architecture": ({"model_type": "llama"}, "model_type is 'llama'.*supported: deepseek_v2"),
    "an unhashable type": ({"model_type": {}}, "model_type is {}"),
    "topk_method": ({"topk_method": "hash"}, "topk_method is 'hash'; expected greedy or group_limited"),
    "scoring_func": ({"scoring_func": "sqrtsoftplus"}, "scoring_func is 'sqrtsoftplus'"),
    "scoring of another method": ({"scoring_func": "softmax"}, "goes with 'sigmoid'"),
    "rope type": ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling.type is 'linear'"),
    "rope without type": ({"rope_scaling": {"factor": 2}}, "type and rope_type"),
    "rope twice": ({"rope_parameters": YARN}, "both rope_scaling and rope_parameters"),
    "unknown rope key": ({"rope_scaling": YARN | {"truncate": False}}, "rope_scaling.truncate"),
    "quantisation": ({"quantization_config": {"quant_method": "awq"}}, "quant_method is 'awq'"),
    "float format": ({"quantization_config": {"quant_method": "fp8", "fmt": "e5m2"}}, "fmt is 'e5m2'"),
    "one block size": ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128]}}, "two"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; expected \"silu\""),
    "attention bias": ({"attention_bias": True}, "attention_bias is True; expected false"),
    "unknown key": ({"index_topk": 2048}, "'index_topk'.*2048.*refused"),
    "zero size": ({"hidden_size": 0}, "hidden_size is 0; expected an integer from 1"),
    "negative size": ({"num_attention_heads": -1}, "num_attention_heads is -1"),
    "huge size": ({"vocab_size": 2**63}, "vocab_size is 9223372036854775808"),
    "size as text": ({"kv_lora_rank": "512"}, "kv_lora_rank is '512'"),
    "size as bool": ({"v_head_dim": True}, "v_head_dim is True"),
    "size as float": ({"hidden_size": 7168.0}, "hidden_size is 7168.0"),
    "odd rotary": ({"qk_rope_head_dim": 63}, "even"),
    "too many chosen": ({"num_experts_per_tok": 300}, "num_experts_per_tok is 300"),
    "none chosen": ({"num_experts_per_tok": None}, "num_experts_per_tok is 0"),
    "groups do not divide": ({"n_group": 7}, "n_group is 7, which does not divide"),
    "more groups chosen than there are": ({"topk_group": 9}, "topk_group is 9"),
    "groups too small": ({"n_group": 256, "topk_group": 256}, "best two experts"),
    "chosen beyond the groups": ({"topk_group": 1, "num_experts_per_tok": 40}, "more than the 32 experts"),
    "dense layers beyond the model": ({"first_k_dense_replace": 62}, "more than num_hidden_layers = 61"),
    "token beyond the vocabulary": ({"eos_token_id": 129280}, "eos_token_id is 129280; vocab_size = 129280"),
    "token as text": ({"eos_token_id": ["</s>"]}, "eos_token_id"),
    "head_dim that contradicts": ({"head_dim": 128}, "head_dim is 128; expected 64"),
    "interleave": ({"rope_interleave": False}, "rope_interleave is False"),
    "epsilon": ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name_and_value(changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(document(**changes))


@pytest.mark.parametrize(
    "key", ["vocab_size", "q_lora_rank", "num_experts_per_tok", "n_group", "routed_scaling_factor"]
)
def test_a_key_whose_default_is_disputed_must_be_there(key):
    incomplete = document()
    del incomplete[key]
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        ModelConfig.from_dict(incomplete)


def test_a_config_made_in_code_is_held_to_the_same_relations():
    with pytest.raises(ConfigError, match="num_experts_per_tok is 257"):
        replace(ModelConfig.from_dict(document()), num_experts_per_tok=257)


@pytest.mark.parametrize("value", [None, 3, [], "text", {1, 2}, float("nan"), {"a": b"bytes"}])
def test_what_is_no_document_at_all(value):
    with pytest.raises(ConfigError):
        ModelConfig.from_dict(value)


def test_a_circular_document():
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(ConfigError):
        ModelConfig.from_dict(loop)


FILES = {
    "empty": (b"", "not valid JSON"),
    "not JSON": (b"PK\x03\x04", "JSON"),
    "not UTF-8": (b'{"model_type": "\xff"}', "not UTF-8"),
    "a list": (b"[]", "not a JSON object"),
    "a key given twice": (b'{"vocab_size": 1, "vocab_size": 2}', "'vocab_size' appears twice"),
    "NaN": (b'{"rope_theta": NaN}', "NaN is not a JSON number"),
    "a number beyond floats": (b'{"rope_theta": 1e999}', "does not fit a float"),
    "deep nesting": (b"[" * 200_000, "deep|JSON"),
    "nesting deeper than any config": (b'{"a":' * 90 + b"1" + b"}" * 90, "nests deeper"),
    "endless digits": (b'{"vocab_size": ' + b"9" * 10_000 + b"}", "JSON"),
}


@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES)
def test_broken_files_are_named(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        ModelConfig.from_file(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_an_endless_one(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        ModelConfig.from_file(tmp_path / "config.json")
    with (tmp_path / "config.json").open("wb") as handle:
        handle.truncate(1 << 30)
    with pytest.raises(ConfigError, match="larger than"):
        ModelConfig.from_file(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_theta": 1}, "rope_theta is 1; expected a number from 1.001"),
        ({"rope_theta": 0.5}, "rope_theta is 0.5"),
        (
            {"rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 5e4}},
            r"rope_theta is 10000, but rope_parameters\.rope_theta is 50000",
        ),
        (
            {"rope_scaling": {**document("deepseek-r1")["rope_scaling"], "beta_fast": 1, "beta_slow": 32}},
            r"rope_scaling\.beta_fast is 1; expected at least beta_slow = 32",
        ),
    ],
)
def test_rotary_numbers_that_contradict_or_cannot_be(change, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(document("deepseek-r1") | change)


# ---------------------------------------------------------------------- any document at all

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 300)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["yarn", "default", "noaux_tc", "greedy", "softmax", "fp8", "deepseek_v2", "kimi_k2"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
KEYS = sorted({key for preset in PRESETS for key in document(preset)} | {"rope_parameters", "head_dim"})
SUBKEYS = [*YARN, "type", "weight_block_size", "fmt", "quant_method", "scale_fmt", "rope_theta"]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(KEYS) | st.text(max_size=5), st.sampled_from([*SUBKEYS, "", "", "", ""]), VALUES
    )
    | st.tuples(st.sampled_from(KEYS), st.just(None), st.none()),
    max_size=6,
)


def edited(preset: str, edits: list[tuple[str, str | None, Any]]) -> dict[str, Any]:
    result = copy.deepcopy(document(preset))
    for key, subkey, value in edits:
        if subkey is None:
            result.pop(key, None)
        elif subkey and isinstance(result.get(key), dict):
            result[key][subkey] = value
        else:
            result[key] = value
    return result


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.sampled_from(sorted(PRESETS)), EDITS)
def test_every_document_is_a_config_or_a_config_error(preset, edits):
    try:
        config = ModelConfig.from_dict(edited(preset, edits))
    except ConfigError:
        return
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert ModelConfig.from_dict(replace(config, source={}).to_dict()) == config
    assert count_parameters(config).model.active <= count_parameters(config).model.total


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.sampled_from(sorted(PRESETS)), st.data())
def test_every_damaged_file_is_a_config_or_a_config_error(tmp_path_factory, preset, data):
    content = bytearray(PRESETS[preset].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=4))
        content = content or bytearray(b"{")
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content)
    with suppress(ConfigError):
        ModelConfig.from_file(path)
