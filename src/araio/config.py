"""`ModelConfig`: a DeepSeek `config.json`, key by key.

The fields that shape the computation carry the published key's name. Keys that other tools write and that
change nothing here are kept for an exact round trip. Whatever is left is refused by name and value: a
key that is ignored in silence is a model that answers wrongly. Read `costs/parameters.py` next for what
these numbers add up to, or `nn/model.py` for what they build.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from araio.atomic import write_text
from araio.errors import ConfigError
from araio.json_reader import ObjectReader, parse_object, read_object, shown

__all__ = ["LATENT_NORM_EPS", "ModelConfig", "QuantizationConfig", "RopeScaling"]

# The norms of the two latents do not follow `rms_norm_eps`: the published code builds them with this default.
LATENT_NORM_EPS = 1e-6

MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "kimi_k2")

# Upper bounds that no real model approaches; they keep a hostile file from asking for absurd allocations.
MAX_FILE_BYTES = 16 << 20
MAX_SIZE = 1 << 22
MAX_LAYERS = 4096
MAX_EXPERTS = 65_536
MAX_CONTEXT = 1 << 30
MIN_THETA = 1.001  # at 1 every pair turns alike, and YaRN divides by the logarithm

# Keys that are kept for the round trip and read by nothing here.
# fmt: off
PASSIVE_KEYS = frozenset((
    "_attn_implementation", "_attn_implementation_autoset", "_name_or_path", "architectures",
    "attention_dropout", "auto_map", "aux_loss_alpha", "chunk_size_feed_forward", "dtype", "ep_size",
    "id2label", "initializer_range", "is_decoder", "is_encoder_decoder", "label2id",
    "num_key_value_heads", "output_attentions", "output_hidden_states", "output_router_logits",
    "pad_token_id", "pretraining_tp", "problem_type", "return_dict", "router_aux_loss_coef", "seq_aux",
    "tokenizer_class", "torch_dtype", "transformers_version", "unsloth_fixed", "unsloth_version",
    "use_cache",
))
# fmt: on

# Keys that would change the computation, and the one value that araio computes with.
FIXED_KEYS: dict[str, Any] = {
    "attention_bias": False,
    "hidden_act": "silu",
    "mlp_bias": False,
    "moe_layer_freq": 1,
    "rope_interleave": True,
}

# Every published V3 file holds these, and the defaults of different programs disagree about them.
V3_EXPERT_KEYS = ("n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor")
EXPERT_KEYS = ("num_experts_per_tok", "moe_intermediate_size", "n_shared_experts", "first_k_dense_replace")


@dataclass(frozen=True)
class RopeScaling:
    """YaRN (Peng et al. 2023, arXiv 2309.00071), as `rope_scaling` of a DeepSeek config."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 0.0

    def temperature(self, mscale: float) -> float:
        """`m(mscale) = 0.1 * mscale * ln(factor) + 1`: the temperature of YaRN, which DeepSeek weighs."""
        return 1.0 if self.factor <= 1 else 0.1 * mscale * math.log(self.factor) + 1.0


@dataclass(frozen=True)
class QuantizationConfig:
    """`quantization_config` of an FP8 checkpoint: e4m3 with one float32 scale per block."""

    weight_block_size: tuple[int, int] = (128, 128)
    scale_fmt: str | None = None  # "ue8m0": scales are powers of two (V3.1)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of one DeepSeek-V2/V3-class model; fields are the keys of its `config.json`.

    However it is made, keys that contradict each other raise ConfigError.
    """

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

    # Mixture of experts; 0 routed experts make every layer dense
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

    def __post_init__(self) -> None:
        _check(self)

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
        return range(first, self.num_hidden_layers)

    @property
    def mtp_layers(self) -> range:
        """Indices of the multi-token-prediction layers, behind the main model's."""
        return range(self.num_hidden_layers, self.num_hidden_layers + self.num_nextn_predict_layers)

    @property
    def has_router_bias(self) -> bool:
        """Whether routers carry `e_score_correction_bias` (balancing without auxiliary loss)."""
        return self.topk_method == "noaux_tc"

    @property
    def choice_groups(self) -> int:
        """Groups of experts of which a token uses the best only; 1 where nothing limits its choice."""
        return 1 if self.topk_method == "greedy" else self.n_group

    def is_moe(self, layer: int) -> bool:
        """Whether `layer` (main or MTP) routes to experts."""
        return bool(self.n_routed_experts) and layer >= self.first_k_dense_replace

    # ------------------------------------------------------------------ documents

    @classmethod
    def from_file(cls, path: str | Path) -> ModelConfig:
        """Read a `config.json`, or the one in a folder.

        Raises ConfigError when the file is missing, is not JSON, or holds what araio does not know.
        """
        path = Path(path)
        path = path / "config.json" if path.is_dir() else path
        try:
            return cls._from_document(read_object(path, MAX_FILE_BYTES))
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, document: Any) -> ModelConfig:
        """Build from a document made in Python; it is copied, and held to the rules of `from_file`."""
        try:
            copy = parse_object(json.dumps(document).encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"the config is not a JSON object: {error}") from None
        return cls._from_document(copy)

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> ModelConfig:
        reader = ObjectReader(document)
        config = cls(**_read_fields(reader), source=document)
        for key, derived in (("head_dim", config.qk_rope_head_dim), ("qk_head_dim", config.qk_head_dim)):
            # transformers repeats these two; they say nothing new, but they must not contradict.
            if reader.has(key) and document[key] != derived:
                raise reader.failure(key, f"{derived}, as the other keys have it")
        reader.refuse_the_rest(PASSIVE_KEYS)
        return config

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` document: as it was read, or written from the fields if they are newer."""
        if self.source and ModelConfig.from_dict(self.source) == self:
            return parse_object(json.dumps(self.source).encode())
        passive = {key: value for key, value in self.source.items() if key in PASSIVE_KEYS}
        return passive | _document(self)

    def save(self, path: str | Path) -> None:
        """Write `to_dict` as JSON, all of it or nothing; raises ConfigError when it cannot be written."""
        try:
            write_text(Path(path), json.dumps(self.to_dict(), indent=2) + "\n")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None


# ---------------------------------------------------------------------- reading


def _read_fields(reader: ObjectReader) -> dict[str, Any]:
    model_type = reader.document.get("model_type")
    if model_type not in MODEL_TYPES:
        raise ConfigError(
            f"model_type is {shown(model_type)}, which araio does not support yet; "
            f"supported: {', '.join(MODEL_TYPES)}"
        )
    reader.has("model_type")
    values: dict[str, Any] = {"model_type": model_type}
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads"):
        values[key] = reader.integer(key, 1, MAX_SIZE)
    for key in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        values[key] = reader.integer(key, 1, MAX_SIZE)
    reader.require("q_lora_rank")
    values["q_lora_rank"] = reader.integer("q_lora_rank", 0, MAX_SIZE, default=0) or None
    values["num_hidden_layers"] = reader.integer("num_hidden_layers", 1, MAX_LAYERS)
    values["max_position_embeddings"] = reader.integer("max_position_embeddings", 1, MAX_CONTEXT)
    values |= _read_experts(reader, is_v2=model_type == "deepseek_v2")
    values["num_nextn_predict_layers"] = reader.integer("num_nextn_predict_layers", 0, 16, default=0)
    values["rms_norm_eps"] = reader.number("rms_norm_eps", 1e-12, 1.0, default=1e-6)
    values["rope_theta"], values["rope_scaling"] = _read_rope(reader)
    values["tie_word_embeddings"] = reader.boolean("tie_word_embeddings", False)
    values["bos_token_id"] = next(iter(reader.integers("bos_token_id", 0, MAX_SIZE, most=1)), None)
    values["eos_token_id"] = reader.integers("eos_token_id", 0, MAX_SIZE, most=64)
    values["quantization_config"] = _read_quantization(reader)
    for key, value in FIXED_KEYS.items():
        if reader.has(key) and reader.document[key] != value:
            raise reader.failure(key, f"{json.dumps(value)}, the only value araio computes with")
    return values


def _read_experts(reader: ObjectReader, is_v2: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "n_routed_experts": reader.integer("n_routed_experts", 0, MAX_EXPERTS, default=0),
        "n_shared_experts": reader.integer("n_shared_experts", 0, 1024, default=0),
        "num_experts_per_tok": reader.integer("num_experts_per_tok", 0, MAX_EXPERTS, default=0),
        "moe_intermediate_size": reader.integer("moe_intermediate_size", 0, MAX_SIZE, default=0),
        "first_k_dense_replace": reader.integer("first_k_dense_replace", 0, MAX_LAYERS, default=0),
        "n_group": reader.integer("n_group", 1, MAX_EXPERTS, default=1),
        "topk_group": reader.integer("topk_group", 1, MAX_EXPERTS, default=1),
        "norm_topk_prob": reader.boolean("norm_topk_prob", False),
        "routed_scaling_factor": reader.number("routed_scaling_factor", 1e-6, 1e6, default=1.0),
    }
    if values["n_routed_experts"]:
        reader.require(*EXPERT_KEYS, *(() if is_v2 else V3_EXPERT_KEYS))
    # transformers leaves both keys out for V3, whose code knows one rule only.
    values["topk_method"] = reader.choice(
        "topk_method", ("greedy", "group_limited_greedy", "noaux_tc"), "greedy" if is_v2 else "noaux_tc"
    )
    values["scoring_func"] = reader.choice(
        "scoring_func", ("softmax", "sigmoid"), "softmax" if is_v2 else "sigmoid"
    )
    return values


def _read_rope(reader: ObjectReader) -> tuple[float, RopeScaling | None]:
    """`rope_theta` and `rope_scaling`, or the one `rope_parameters` that transformers 5 writes instead."""
    theta = reader.number("rope_theta", MIN_THETA, 1e12, default=10_000.0)
    scaling = reader.table("rope_scaling")
    parameters = reader.table("rope_parameters")
    if scaling is not None and parameters is not None:
        raise ConfigError("both rope_scaling and rope_parameters are given; keep one of them")
    table = scaling or parameters
    if table is None:
        return theta, None
    inner = table.number("rope_theta", MIN_THETA, 1e12, default=theta)
    if reader.has("rope_theta") and inner != theta:
        raise ConfigError(
            f"rope_theta is {theta:g}, but {table.prefix}rope_theta is {inner:g}; keep one of them"
        )
    theta = inner
    kinds = {table.choice(key, ("yarn", "default")) for key in ("type", "rope_type") if table.has(key)}
    if len(kinds) != 1:
        raise ConfigError(
            f"{table.prefix}type and rope_type say {sorted(kinds)}; expected one of them, or both alike"
        )
    rope = None if kinds == {"default"} else _read_yarn(table)
    table.refuse_the_rest()
    return theta, rope


def _read_yarn(table: ObjectReader) -> RopeScaling:
    table.require("factor")
    scaling = RopeScaling(
        factor=table.number("factor", 1.0, 1e6, default=1.0),
        original_max_position_embeddings=table.integer("original_max_position_embeddings", 1, MAX_CONTEXT),
        beta_fast=table.number("beta_fast", 1e-3, 1e6, default=32.0),
        beta_slow=table.number("beta_slow", 1e-3, 1e6, default=1.0),
        mscale=table.number("mscale", 0.0, 1e3, default=1.0),
        mscale_all_dim=table.number("mscale_all_dim", 0.0, 1e3, default=0.0),
    )
    if scaling.beta_fast < scaling.beta_slow:
        raise table.failure("beta_fast", f"at least beta_slow = {scaling.beta_slow:g}")
    return scaling


def _read_quantization(reader: ObjectReader) -> QuantizationConfig | None:
    table = reader.table("quantization_config")
    if table is None:
        return None
    table.choice("quant_method", ("fp8",))
    table.choice("fmt", ("e4m3",), "e4m3")
    table.choice("activation_scheme", ("dynamic",), "dynamic")
    table.choice("expert_dtype", ("fp8",), "fp8")
    # Which weights are quantised is decided by the stored tensors themselves, never by these lists.
    passive = ("modules_to_not_convert", "modules_to_convert", "dequantize")
    block = table.integers("weight_block_size", 1, MAX_SIZE, most=2) or (128, 128)
    if len(block) != 2:
        raise table.failure("weight_block_size", "two positive integers such as [128, 128]")
    scale_fmt = table.choice("scale_fmt", ("ue8m0", "float")) if table.has("scale_fmt") else None
    table.refuse_the_rest(passive)
    return QuantizationConfig((block[0], block[1]), scale_fmt)


# ---------------------------------------------------------------------- relations between keys


def _check(config: ModelConfig) -> None:
    if config.qk_rope_head_dim % 2:
        raise ConfigError(f"qk_rope_head_dim is {config.qk_rope_head_dim}; rotary pairs need an even number")
    for key, ids in (("bos_token_id", (config.bos_token_id,)), ("eos_token_id", config.eos_token_id)):
        for token in ids:
            if token is not None and token >= config.vocab_size:
                raise ConfigError(f"{key} is {token}; vocab_size = {config.vocab_size} has no such token")
    if config.n_routed_experts:
        _check_router(config)
    if config.first_k_dense_replace > config.num_hidden_layers:
        raise ConfigError(
            f"first_k_dense_replace is {config.first_k_dense_replace}, more than "
            f"num_hidden_layers = {config.num_hidden_layers}"
        )


def _check_router(config: ModelConfig) -> None:
    experts, chosen, groups = config.n_routed_experts, config.num_experts_per_tok, config.n_group
    if not 1 <= chosen <= experts:
        raise ConfigError(f"num_experts_per_tok is {chosen}; expected 1 to n_routed_experts = {experts}")
    if not config.moe_intermediate_size:
        raise ConfigError(f"moe_intermediate_size is 0, but n_routed_experts = {experts} need a size")
    if experts % groups:
        raise ConfigError(f"n_group is {groups}, which does not divide n_routed_experts = {experts}")
    if config.topk_group > groups:
        raise ConfigError(f"topk_group is {config.topk_group}, more than n_group = {groups}")
    reachable = config.topk_group * (experts // groups)
    if config.topk_method != "greedy" and chosen > reachable:
        raise ConfigError(
            f"num_experts_per_tok is {chosen}, more than the {reachable} experts "
            f"in topk_group = {config.topk_group} groups"
        )
    scoring = "sigmoid" if config.topk_method == "noaux_tc" else "softmax"
    if config.scoring_func != scoring:
        raise ConfigError(
            f"scoring_func is {config.scoring_func!r}; "
            f"topk_method = {config.topk_method!r} goes with {scoring!r}"
        )
    if config.topk_method == "noaux_tc" and groups > 1 and experts // groups < 2:
        raise ConfigError(
            f"n_group is {groups}: noaux_tc scores a group by its best two experts, so it needs two"
        )


# ---------------------------------------------------------------------- writing


def _document(config: ModelConfig) -> dict[str, Any]:
    """A config.json for a config made in code, with the keys DeepSeek publishes."""
    name = "DeepseekV2ForCausalLM" if config.model_type == "deepseek_v2" else "DeepseekV3ForCausalLM"
    written = {entry.name: getattr(config, entry.name) for entry in fields(config) if entry.name != "source"}
    eos, scaling, quantization = config.eos_token_id, config.rope_scaling, config.quantization_config
    written["eos_token_id"] = eos[0] if len(eos) == 1 else list(eos) or None
    written["rope_scaling"] = None if scaling is None else {"type": "yarn"} | vars(scaling)
    del written["quantization_config"]
    if quantization is not None:
        written["quantization_config"] = {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": list(quantization.weight_block_size),
        } | ({"scale_fmt": quantization.scale_fmt} if quantization.scale_fmt else {})
    derived = {
        "architectures": [name],
        "num_key_value_heads": config.num_attention_heads,
        "hidden_act": "silu",
        "attention_bias": False,
        "moe_layer_freq": 1,
    }
    return derived | written
