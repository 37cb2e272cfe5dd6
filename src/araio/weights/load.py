"""Checkpoint or store to running model: every tensor read once, widened where memory allows, handed to `nn/`.

The checkpoint is checked against its config before a weight is read, and the parts of the model are named as
its tensors are, so there is no table of names. Read `formats/checkpoint.py` for the files and `nn/model.py`
for what is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from araio.codecs import Codec, codec
from araio.config import LATENT_NORM_EPS, ModelConfig
from araio.errors import CheckpointError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import expected_tensors
from araio.formats.manifest import MANIFEST_NAME
from araio.formats.store import Store
from araio.kernels.ops import FeedForward, Matrix, Ops
from araio.kernels.select import select
from araio.kernels.widen import widen
from araio.nn.attention import Attention, LowRankQuery
from araio.nn.block import Block
from araio.nn.experts import InMemoryExperts
from araio.nn.linear import Linear, SwiGLU
from araio.nn.model import Model
from araio.nn.moe import MoE
from araio.nn.mtp import MTPModule
from araio.nn.norm import RMSNorm
from araio.nn.rope import RotaryEmbedding
from araio.nn.router import Router
from araio.tensors import BFloat16, Float32Array

__all__ = ["load_model", "open_checked"]


def load_model(folder: Path, ops: Ops | None = None) -> Model:
    """Read a checkpoint folder into memory.

    Weights stay as stored, except that bfloat16 becomes float32 for operations that are faster so, if the
    whole model then takes at most half of the memory that is free. Where the multi-token-prediction layer is
    absent as a whole, the model has none.

    folder  `config.json` and safetensors, as Hugging Face lays them out, or a store of `araio convert`
    ops     the operations to compute with; the best of this machine if None

    Raises:
        ConfigError, FormatError, CheckpointError: what is stored is malformed or damaged, does not fit
            together, or does not fit into memory.
        KernelError: `ARAIO_KERNELS` asks for a backend that cannot run here.
    """
    ops = select().ops if ops is None else ops
    with open_checked(folder) as (config, checkpoint):
        if not checkpoint.holds_mtp(config):
            # transformers saves V3 models without the module, yet leaves the config as it was.
            config = replace(config, num_nextn_predict_layers=0)
        widens = ops.wants_float32 and _fits_as_float32(config)
        _refuse_what_does_not_fit(checkpoint, config, widens)
        return _Builder(checkpoint, config, ops, widens).model()


@contextmanager
def open_checked(folder: Path) -> Iterator[tuple[ModelConfig, Checkpoint | Store]]:
    """A folder's config and its open checkpoint or store, which fit together; no weight is read yet.

    Raises ConfigError, FormatError or CheckpointError if they do not.
    """
    config = ModelConfig.from_file(folder)
    quantization = config.quantization_config
    block = quantization.weight_block_size if quantization else (128, 128)
    if (folder / MANIFEST_NAME).exists():
        with Store(folder, config, block) as store:
            yield config, store
        return
    with Checkpoint.open(folder, block) as checkpoint:
        checkpoint.check(config)
        yield config, checkpoint


def _fits_as_float32(config: ModelConfig) -> bool:
    numbers = sum(math.prod(shape) for shape in expected_tensors(config).values())
    return numbers * 4 <= psutil.virtual_memory().available / 2


def _refuse_what_does_not_fit(checkpoint: Checkpoint | Store, config: ModelConfig, widens: bool) -> None:
    """Otherwise the system would kill the process half way, without a word."""
    tensors = expected_tensors(config).items()
    needed = sum(_bytes_held(checkpoint.codec(name), shape, widens) for name, shape in tensors)
    available = psutil.virtual_memory().available
    if needed > available:
        raise CheckpointError(
            f"{checkpoint.folder}: its weights take {needed / 1e6:,.0f} MB of memory, but "
            f"{available / 1e6:,.0f} MB are free; close other programs, or use a machine with more memory or "
            "a smaller model"
        )


def _bytes_held(stored: Codec[Any], shape: tuple[int, ...], widens: bool) -> int:
    return (codec("f32") if widens and stored.name == "bf16" else stored).bytes(shape)


class _Builder:
    """Builds the parts of a model from the tensors below a prefix such as `model.layers.3.`."""

    def __init__(self, checkpoint: Checkpoint | Store, config: ModelConfig, ops: Ops, widens: bool) -> None:
        self.checkpoint = checkpoint
        self.config = config
        self.ops = ops
        self.widens = widens
        self.rotary = RotaryEmbedding(config)

    def model(self) -> Model:
        config, ops = self.config, self.ops
        embed_tokens = self.weight("model.embed_tokens.weight")
        head = embed_tokens if config.tie_word_embeddings else self.weight("lm_head.weight")
        return Model(
            config=config,
            embed_tokens=embed_tokens,
            rotary=self.rotary,
            layers=[self.block(layer) for layer in range(config.num_hidden_layers)],
            norm=self.norm("model.norm"),
            lm_head=Linear(head, ops),
            mtp=self.mtp(config.mtp_layers[0], embed_tokens) if config.mtp_layers else None,
            ops=ops,
        )

    def mtp(self, layer: int, embed_tokens: Matrix) -> MTPModule:
        at = f"model.layers.{layer}"
        return MTPModule(
            embed_tokens=embed_tokens,
            rotary=self.rotary,
            enorm=self.norm(f"{at}.enorm"),
            hnorm=self.norm(f"{at}.hnorm"),
            eh_proj=self.linear(f"{at}.eh_proj"),
            block=self.block(layer),
            shared_head_norm=self.norm(f"{at}.shared_head.norm"),
            ops=self.ops,
        )

    def block(self, layer: int) -> Block:
        at = f"model.layers.{layer}"
        is_moe = self.config.is_moe(layer)
        return Block(
            input_layernorm=self.norm(f"{at}.input_layernorm"),
            self_attn=self.attention(layer, f"{at}.self_attn"),
            post_attention_layernorm=self.norm(f"{at}.post_attention_layernorm"),
            mlp=self.moe(layer, f"{at}.mlp") if is_moe else SwiGLU(self.feed_forward(f"{at}.mlp"), self.ops),
        )

    def attention(self, layer: int, at: str) -> Attention:
        return Attention(
            config=self.config,
            layer=layer,
            q_proj=self.query(at),
            kv_a_proj_with_mqa=self.linear(f"{at}.kv_a_proj_with_mqa"),
            kv_a_layernorm=self.norm(f"{at}.kv_a_layernorm", LATENT_NORM_EPS),
            kv_b_proj=self.weight(f"{at}.kv_b_proj.weight"),
            o_proj=self.linear(f"{at}.o_proj"),
            ops=self.ops,
        )

    def query(self, at: str) -> Linear | LowRankQuery:
        if self.config.q_lora_rank is None:
            return self.linear(f"{at}.q_proj")
        return LowRankQuery(
            q_a_proj=self.linear(f"{at}.q_a_proj"),
            q_a_layernorm=self.norm(f"{at}.q_a_layernorm", LATENT_NORM_EPS),
            q_b_proj=self.linear(f"{at}.q_b_proj"),
        )

    def moe(self, layer: int, at: str) -> MoE:
        config, ops = self.config, self.ops
        bias = self.float32(f"{at}.gate.e_score_correction_bias") if config.has_router_bias else None
        shared = SwiGLU(self.feed_forward(f"{at}.shared_experts"), ops) if config.n_shared_experts else None
        return MoE(
            gate=Router(config, layer, ops.hold(self.float32(f"{at}.gate.weight")), bias, ops),
            experts=InMemoryExperts({layer: self.experts(at)}),
            shared_experts=shared,
            ops=ops,
        )

    def experts(self, at: str) -> Mapping[int, FeedForward]:
        return {i: self.feed_forward(f"{at}.experts.{i}") for i in range(self.config.n_routed_experts)}

    def feed_forward(self, at: str) -> FeedForward:
        return FeedForward(
            *(self.weight(f"{at}.{name}.weight") for name in ("gate_proj", "up_proj", "down_proj"))
        )

    def linear(self, at: str) -> Linear:
        return Linear(self.weight(f"{at}.weight"), self.ops)

    def norm(self, at: str, eps: float | None = None) -> RMSNorm:
        return RMSNorm(
            self.float32(f"{at}.weight"), self.config.rms_norm_eps if eps is None else eps, self.ops
        )

    def float32(self, name: str) -> Float32Array:
        return widen(self.checkpoint.read_weight(name))

    def weight(self, name: str) -> Matrix:
        stored = self.checkpoint.read_weight(name)
        return self.ops.hold(widen(stored) if self.widens and isinstance(stored, BFloat16) else stored)
