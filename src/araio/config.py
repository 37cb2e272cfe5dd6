"""`ModelConfig`: a DeepSeek `config.json`, key by key.

The fields that shape the computation carry the published key's name. Keys that other tools write and that
change nothing here are kept for an exact round trip. Whatever is left is refused by name and value: a
key that is ignored in silence is a model that answers wrongly. Read `costs/parameters.py` next for what
these numbers add up to, or `nn/model.py` for what they build.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from araio.errors import ConfigError

__all__ = ["ModelConfig", "QuantizationConfig", "RopeScaling"]

MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "kimi_k2")

# Upper bounds that no real model approaches; they keep a hostile file from asking for absurd allocations.
MAX_SIZE = 1 << 22
MAX_LAYERS = 4096
MAX_EXPERTS = 65_536

# Keys that are kept for the round trip and read by nothing here.
PASSIVE_KEYS = frozenset(
    ["_name_or_path", "architectures", "attention_dropout", "attn_implementation", "auto_map", "aux_loss_alpha", "chunk_size_feed_forward", "dtype", "eos_token_id_list", "ep_size", "id2label", "initializer_range", "is_decoder", "is_encoder_decoder", "label2id", "num_key_value_heads", "output_attentions", "output_hidden_states", "output_router_logits", "pad_token_id", "pretraining_tp", "problem_type", "return_dict", "router_aux_loss_coef", "seq_aux", "torch_dtype", "transformers_version", "unsloth_fixed", "use_cache", "use_mtp"]
)

# Keys that would change the computation; the one value that araio computes with.
REQUIRED_VALUES: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "hidden_act": ("silu",),
    "mlp_bias": (False,),
    "moe_layer_freq": (1,),
    "rope_interleave": (True,),
}


@dataclass(frozen=True)
class RopeScaling:
    """YaRN (Peng et al. 2023, arXiv 2309.00071), as `rope_scaling` of a DeepSeek config."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 0.0


@dataclass(frozen=True)
class QuantizationConfig:
    """`quantization_config` of an FP8 checkpoint: e4m3 with one float32 scale per block."""

    weight_block_size: tuple[int, int] = (128, 128)
    scale_fmt: str | None = None  # "ue8m0": scales are powers of two (V3.1)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of one DeepSeek-V2/V3-class model; fields are the keys of its `config.json`."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int

    # Multi-head latent attention (DeepSeek-V2 report, section 2.1)
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int

    # Mixture of experts; None or 0 routed experts make every layer dense
    moe_intermediate_size: int = 0
    n_routed_experts: int = 0
    n_shared_experts: int = 0
    num_experts_per_tok: int = 0
    first_k_dense_replace: int = 0
    topk_method: str = "greedy"
    scoring_func: str = "softmax"
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = False
    routed_scaling_factor: float = 1.0

    num_nextn_predict_layers: int = 0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()
    quantization_config: QuantizationConfig | None = None

    source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The document as it was read; `to_dict` gives it back unchanged."""

    # ------------------------------------------------------------------ derived sizes

    @property
    def qk_head_dim(self) -> int:
        """Size of one query or key head: the part without position and the rotary part."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_dim(self) -> int:
        """Numbers per token and layer in the latent cache: `kv_lora_rank + qk_rope_head_dim`."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def moe_layers(self) -> range:
        """Indices of the main model's layers that route; the MTP layers behind them route as well."""
        first = self.first_k_dense_replace if self.n_routed_experts else self.num_hidden_layers
        return range(min(first, self.num_hidden_layers), self.num_hidden_layers)

    @property
    def mtp_layers(self) -> range:
        """Indices of the multi-token-prediction layers, behind the main model's."""
        return range(self.num_hidden_layers, self.num_hidden_layers + self.num_nextn_predict_layers)

    @property
    def has_router_bias(self) -> bool:
        """Whether routers carry `e_score_correction_bias` (balancing without auxiliary loss)."""
        return self.topk_method == "noaux_tc"

    def is_moe(self, layer: int) -> bool:
        """Whether `layer` (main or MTP) routes to experts."""
        return bool(self.n_routed_experts) and layer >= self.first_k_dense_replace

    # ------------------------------------------------------------------ reading and writing

    @classmethod
    def from_file(cls, path: str | Path) -> ModelConfig:
        """Read `config.json`, or the one inside a folder.

        Raises:
            ConfigError: the file cannot be read, is not JSON, or holds what araio does not know.
        """
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read as text ({error})") from None
        try:
            document = json.loads(text, object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: is not valid JSON ({error})") from None
        try:
            return cls.from_dict(document)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, document: Any) -> ModelConfig:
        """Build from the parsed document; see `from_file`."""
        if not isinstance(document, dict):
            raise ConfigError(f"expected a JSON object, found {type(document).__name__}")
        reader = _Reader(document)
        config = cls(**_read_fields(reader), source=document)
        reader.refuse_the_rest()
        _check(config)
        return config

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` document: as it was read, or written from the fields if made in code."""
        return json.loads(json.dumps(self.source)) if self.source else _document(self)

    def save(self, path: str | Path) -> None:
        """Write `to_dict` as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"key {key!r} appears twice")
        seen[key] = value
    return seen


class _Reader:
    """Takes keys out of a document with a type check, and remembers which were taken."""

    def __init__(self, document: Mapping[str, Any], prefix: str = "") -> None:
        self.document = document
        self.prefix = prefix
        self.taken: set[str] = set()

    def has(self, key: str) -> bool:
        self.taken.add(key)
        return self.document.get(key) is not None

    def fail(self, key: str, expected: str) -> ConfigError:
        return ConfigError(f"{self.prefix}{key} is {self.document.get(key)!r}; expected {expected}")

    def integer(self, key: str, default: int | None = None, low: int = 1, high: int = MAX_SIZE) -> int:
        if not self.has(key):
            if default is None:
                raise ConfigError(f"{self.prefix}{key} is missing; expected an integer")
            return default
        value = self.document[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(key, f"an integer from {low} to {high}")
        return value

    def number(self, key: str, default: float, low: float = 0.0, high: float = 1e12) -> float:
        if not self.has(key):
            return default
        value = self.document[key]
        # The comparison also refuses NaN, which JSON files of Python tools may hold.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
            raise self.fail(key, f"a number above {low:g} and at most {high:g}")
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        if not self.has(key):
            return default
        if not isinstance(self.document[key], bool):
            raise self.fail(key, "true or false")
        return bool(self.document[key])

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        if not self.has(key) and default is not None:
            return default
        value = self.document.get(key)
        if not isinstance(value, str) or value not in choices:
            raise self.fail(key, "one of " + ", ".join(choices))
        return value

    def table(self, key: str) -> _Reader | None:
        if not self.has(key):
            return None
        value = self.document[key]
        if not isinstance(value, dict):
            raise self.fail(key, "an object")
        return _Reader(value, f"{self.prefix}{key}.")

    def refuse_the_rest(self) -> None:
        for key, value in self.document.items():
            if key in self.taken or key in PASSIVE_KEYS:
                continue
            if key in REQUIRED_VALUES:
                if value is None or value in REQUIRED_VALUES[key]:
                    continue
                expected = " or ".join(repr(v) for v in REQUIRED_VALUES[key])
                raise ConfigError(f"{self.prefix}{key} is {value!r}; araio computes with {expected} only")
            raise ConfigError(
                f"{self.prefix}{key} is {value!r}, a key that araio does not know; it may change what the "
                "model computes, so it is refused rather than ignored"
            )


def _read_fields(reader: _Reader) -> dict[str, Any]:
    values: dict[str, Any] = {"model_type": _model_type(reader)}
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads"):
        values[key] = reader.integer(key)
    values["num_hidden_layers"] = reader.integer("num_hidden_layers", high=MAX_LAYERS)
    values["max_position_embeddings"] = reader.integer("max_position_embeddings", high=1 << 30)
    values["q_lora_rank"] = reader.integer("q_lora_rank", default=0, low=0) or None
    for key in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        values[key] = reader.integer(key)
    values |= _read_experts(reader, values["model_type"], values["num_hidden_layers"])
    values["num_nextn_predict_layers"] = reader.integer("num_nextn_predict_layers", default=0, low=0, high=16)
    values["rms_norm_eps"] = reader.number("rms_norm_eps", 1e-6, high=1.0)
    values["rope_theta"], values["rope_scaling"] = _read_rope(reader)
    values["tie_word_embeddings"] = reader.boolean("tie_word_embeddings", False)
    values["bos_token_id"] = (
        reader.integer("bos_token_id", default=-1, low=0) if reader.has("bos_token_id") else None
    )
    values["eos_token_id"] = _read_eos(reader)
    values["quantization_config"] = _read_quantization(reader)
    reader.has("head_dim")  # transformers writes it; it repeats qk_rope_head_dim
    reader.has("qk_head_dim")  # and so does this one, with qk_nope_head_dim + qk_rope_head_dim
    return values


def _model_type(reader: _Reader) -> str:
    found = reader.document.get("model_type")
    if found not in MODEL_TYPES:
        raise ConfigError(
            f"model_type is {found!r}, which is not supported; supported: {', '.join(MODEL_TYPES)}"
        )
    return reader.choice("model_type", MODEL_TYPES)


def _read_experts(reader: _Reader, model_type: str, layers: int) -> dict[str, Any]:
    is_v2 = model_type == "deepseek_v2"
    values: dict[str, Any] = {
        "n_routed_experts": reader.integer("n_routed_experts", default=0, low=0, high=MAX_EXPERTS),
        "n_shared_experts": reader.integer("n_shared_experts", default=0, low=0, high=1024),
        "num_experts_per_tok": reader.integer("num_experts_per_tok", default=0, low=0, high=MAX_EXPERTS),
        "moe_intermediate_size": reader.integer("moe_intermediate_size", default=0, low=0),
        "first_k_dense_replace": reader.integer("first_k_dense_replace", default=0, low=0, high=MAX_LAYERS),
        "n_group": reader.integer("n_group", default=1, high=MAX_EXPERTS),
        "topk_group": reader.integer("topk_group", default=1, high=MAX_EXPERTS),
        "norm_topk_prob": reader.boolean("norm_topk_prob", not is_v2),
        "routed_scaling_factor": reader.number("routed_scaling_factor", 1.0),
    }
    # transformers drops both keys for V3, whose code knows one rule only.
    values["topk_method"] = reader.choice(
        "topk_method", ("greedy", "group_limited_greedy", "noaux_tc"), "greedy" if is_v2 else "noaux_tc"
    )
    values["scoring_func"] = reader.choice(
        "scoring_func", ("softmax", "sigmoid"), "softmax" if is_v2 else "sigmoid"
    )
    return values


def _read_rope(reader: _Reader) -> tuple[float, RopeScaling | None]:
    """`rope_theta` and `rope_scaling`, or the one `rope_parameters` that transformers 5 writes instead."""
    theta = reader.number("rope_theta", 10_000.0)
    scaling = reader.table("rope_scaling")
    parameters = reader.table("rope_parameters")
    if scaling is not None and parameters is not None:
        raise ConfigError("both rope_scaling and rope_parameters are given; keep one of them")
    table = scaling or parameters
    if table is None:
        return theta, None
    if parameters is not None:
        theta = table.number("rope_theta", theta)
    for key in ("type", "rope_type"):
        if table.has(key) and table.choice(key, ("yarn", "default")) == "default":
            table.refuse_the_rest()
            return theta, None
    if not (table.has("type") or table.has("rope_type")):
        raise ConfigError(f"{table.prefix}type is missing; expected 'yarn'")
    rope = RopeScaling(
        factor=table.number("factor", 1.0),
        original_max_position_embeddings=table.integer("original_max_position_embeddings", high=1 << 30),
        beta_fast=table.number("beta_fast", 32.0),
        beta_slow=table.number("beta_slow", 1.0),
        mscale=table.number("mscale", 1.0, low=-1.0),
        mscale_all_dim=table.number("mscale_all_dim", 0.0, low=-1.0),
    )
    table.refuse_the_rest()
    return theta, rope


def _read_eos(reader: _Reader) -> tuple[int, ...]:
    if not reader.has("eos_token_id"):
        return ()
    value = reader.document["eos_token_id"]
    ids = value if isinstance(value, list) else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise reader.fail("eos_token_id", "a token id or a list of them")
    return tuple(ids)


def _read_quantization(reader: _Reader) -> QuantizationConfig | None:
    table = reader.table("quantization_config")
    if table is None:
        return None
    table.choice("quant_method", ("fp8",))
    table.choice("fmt", ("e4m3",), "e4m3")
    table.choice("activation_scheme", ("dynamic",), "dynamic")
    block = (128, 128)
    if table.has("weight_block_size"):
        value = table.document["weight_block_size"]
        if not (
            isinstance(value, list)
            and len(value) == 2
            and all(type(n) is int and 0 < n <= MAX_SIZE for n in value)
        ):
            raise table.fail("weight_block_size", "two positive integers such as [128, 128]")
        block = (value[0], value[1])
    scale_fmt = table.choice("scale_fmt", ("ue8m0",)) if table.has("scale_fmt") else None
    table.has("modules_to_not_convert")
    table.refuse_the_rest()
    return QuantizationConfig(block, scale_fmt)


def _check(config: ModelConfig) -> None:
    """Relations between keys; each message names the keys and their values."""
    if config.qk_rope_head_dim % 2:
        raise ConfigError(f"qk_rope_head_dim is {config.qk_rope_head_dim}; rotary pairs need an even number")
    for key in ("bos_token_id", "eos_token_id"):
        ids = getattr(config, key)
        for token in ids if isinstance(ids, tuple) else [ids]:
            if token is not None and token >= config.vocab_size:
                raise ConfigError(f"{key} is {token}; vocab_size is {config.vocab_size}")
    if config.n_routed_experts:
        _check_router(config)
    if config.first_k_dense_replace > config.num_hidden_layers:
        raise ConfigError(
            f"first_k_dense_replace is {config.first_k_dense_replace}, more than "
            f"num_hidden_layers = {config.num_hidden_layers}"
        )
    known = config.source
    for key, expected in (("head_dim", config.qk_rope_head_dim), ("qk_head_dim", config.qk_head_dim)):
        if known.get(key) is not None and known[key] != expected:
            raise ConfigError(f"{key} is {known[key]!r}; the other keys make it {expected}")


def _check_router(config: ModelConfig) -> None:
    experts, chosen, groups = config.n_routed_experts, config.num_experts_per_tok, config.n_group
    if not 1 <= chosen <= experts:
        raise ConfigError(f"num_experts_per_tok is {chosen}; expected 1 to n_routed_experts = {experts}")
    if not config.moe_intermediate_size:
        raise ConfigError("moe_intermediate_size is missing although n_routed_experts is given")
    if experts % groups:
        raise ConfigError(f"n_group is {groups}, which does not divide n_routed_experts = {experts}")
    if config.topk_group > groups:
        raise ConfigError(f"topk_group is {config.topk_group}, more than n_group = {groups}")
    if config.topk_method != "greedy" and chosen > config.topk_group * (experts // groups):
        raise ConfigError(
            f"num_experts_per_tok is {chosen}, more than the {config.topk_group * (experts // groups)} "
            f"experts in topk_group = {config.topk_group} groups"
        )
    scoring = "sigmoid" if config.topk_method == "noaux_tc" else "softmax"
    if config.scoring_func != scoring:
        raise ConfigError(
            f"scoring_func is {config.scoring_func!r}; topk_method = {config.topk_method!r} goes with {scoring!r}"
        )
    if config.topk_method == "noaux_tc" and groups > 1 and experts // groups < 2:
        raise ConfigError(
            f"n_group is {groups}: noaux_tc scores a group by its best two experts, so it needs two"
        )


def _document(config: ModelConfig) -> dict[str, Any]:
    """A config.json for a config made in code, with the keys DeepSeek publishes."""
    name = "DeepseekV2ForCausalLM" if config.model_type == "deepseek_v2" else "DeepseekV3ForCausalLM"
    document: dict[str, Any] = {"architectures": [name]}
    for entry in fields(config):
        if entry.name in ("source", "rope_scaling", "quantization_config", "eos_token_id"):
            continue
        document[entry.name] = getattr(config, entry.name)
    document["num_key_value_heads"] = config.num_attention_heads
    document["hidden_act"] = "silu"
    document["attention_bias"] = False
    document["moe_layer_freq"] = 1
    if config.eos_token_id:
        document["eos_token_id"] = (
            config.eos_token_id[0] if len(config.eos_token_id) == 1 else list(config.eos_token_id)
        )
    scaling = config.rope_scaling
    document["rope_scaling"] = None if scaling is None else {"type": "yarn"} | vars(scaling)
    if (quantization := config.quantization_config) is not None:
        document["quantization_config"] = {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": list(quantization.weight_block_size),
        } | ({"scale_fmt": quantization.scale_fmt} if quantization.scale_fmt else {})
    return document
