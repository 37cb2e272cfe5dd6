"""The parts of a model from its tensors: they are named as the tensors are, so there is no table of names.

Read `load.py` for where the tensors come from and `nn/model.py` for what is built.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from araio.codecs import Codec, codec, codec_of
from araio.config import LATENT_NORM_EPS, ModelConfig
from araio.costs.work import HeldBytes
from araio.kernels.ops import FeedForward, Matrix, Ops
from araio.kernels.widen import widen
from araio.nn.attention import Attention, LowRankQuery
from araio.nn.block import Block
from araio.nn.experts import InMemoryExperts
from araio.nn.linear import Linear, SwiGLU
from araio.nn.lookahead import Lookahead
from araio.nn.model import Model
from araio.nn.moe import MoE
from araio.nn.mtp import MTPModule
from araio.nn.norm import RMSNorm
from araio.nn.rope import RotaryEmbedding
from araio.nn.router import Router
from araio.tensors import BFloat16, Float32Array, Weight
from araio.weights.residency import StreamedExperts

__all__ = ["ModelBuilder", "WeightSource", "bytes_held"]


class WeightSource(Protocol):
    """Whatever gives a model's weights by the names of its tensors: a checkpoint, a store, a generator."""

    def read_weight(self, name: str) -> Weight:
        """The tensor `name` as it is stored."""


class ModelBuilder:
    """Builds the parts of a model from the tensors below a prefix such as `model.layers.3.`.

    widens    bfloat16 weights become float32
    streamed  where routed experts come from while the model runs; None reads all of them now
    """

    def __init__(
        self,
        source: WeightSource,
        config: ModelConfig,
        ops: Ops,
        widens: bool,
        streamed: StreamedExperts | None = None,
    ) -> None:
        self.source = source
        self.config = config
        self.ops = ops
        self.widens = widens
        self.streamed = streamed
        self.lookahead = Lookahead(streamed) if streamed else None
        self._held: Counter[str] = Counter()
        self.rotary = RotaryEmbedding(config)

    def model(self) -> Model:
        """The whole network; every tensor of `expected_tensors` is read once."""
        config, ops = self.config, self.ops
        embed_tokens = self._weight("model.embed_tokens.weight")
        head = embed_tokens if config.tie_word_embeddings else self._weight("lm_head.weight")
        layers = [self._block(layer) for layer in range(config.num_hidden_layers)]
        mtp = self._mtp(config.mtp_layers[0], embed_tokens) if config.mtp_layers else None
        return Model(
            config=config,
            embed_tokens=embed_tokens,
            rotary=self.rotary,
            layers=layers,
            norm=self._norm("model.norm"),
            lm_head=Linear(head, ops),
            mtp=mtp,
            held=self._held_bytes(),
            ops=ops,
            lookahead=self.lookahead,
        )

    def _mtp(self, layer: int, embed_tokens: Matrix) -> MTPModule:
        at = f"model.layers.{layer}"
        return MTPModule(
            embed_tokens=embed_tokens,
            rotary=self.rotary,
            enorm=self._norm(f"{at}.enorm"),
            hnorm=self._norm(f"{at}.hnorm"),
            eh_proj=self._linear(f"{at}.eh_proj"),
            block=self._block(layer),
            shared_head_norm=self._norm(f"{at}.shared_head.norm"),
            ops=self.ops,
        )

    def _block(self, layer: int) -> Block:
        at = f"model.layers.{layer}"
        if self.config.is_moe(layer):
            mlp: SwiGLU | MoE = self._moe(layer, f"{at}.mlp")
        else:
            mlp = SwiGLU(self._feed_forward(f"{at}.mlp"), self.ops)
        norm = self._norm(f"{at}.post_attention_layernorm")
        # Not to the MTP module, whose input is not what the last layer gives.
        if self.lookahead and isinstance(mlp, MoE) and layer not in self.config.mtp_layers:
            self.lookahead.add(norm, mlp.gate)
        return Block(
            input_layernorm=self._norm(f"{at}.input_layernorm"),
            self_attn=self._attention(layer, f"{at}.self_attn"),
            post_attention_layernorm=norm,
            mlp=mlp,
        )

    def _attention(self, layer: int, at: str) -> Attention:
        return Attention(
            config=self.config,
            layer=layer,
            q_proj=self._query(at),
            kv_a_proj_with_mqa=self._linear(f"{at}.kv_a_proj_with_mqa"),
            kv_a_layernorm=self._norm(f"{at}.kv_a_layernorm", LATENT_NORM_EPS),
            kv_b_proj=self._weight(f"{at}.kv_b_proj.weight"),
            o_proj=self._linear(f"{at}.o_proj"),
            ops=self.ops,
        )

    def _query(self, at: str) -> Linear | LowRankQuery:
        if self.config.q_lora_rank is None:
            return self._linear(f"{at}.q_proj")
        return LowRankQuery(
            q_a_proj=self._linear(f"{at}.q_a_proj"),
            q_a_layernorm=self._norm(f"{at}.q_a_layernorm", LATENT_NORM_EPS),
            q_b_proj=self._linear(f"{at}.q_b_proj"),
        )

    def _moe(self, layer: int, at: str) -> MoE:
        config, ops = self.config, self.ops
        bias = self._float32(f"{at}.gate.e_score_correction_bias") if config.has_router_bias else None
        shared = SwiGLU(self._feed_forward(f"{at}.shared_experts"), ops) if config.n_shared_experts else None
        gate = Router(config, layer, ops.hold(self._float32(f"{at}.gate.weight")), bias, ops)
        if self.streamed:
            gate.on_scores = self.streamed.note_scores
        return MoE(
            gate=gate,
            experts=self.streamed or InMemoryExperts({layer: self._experts(at)}),
            shared_experts=shared,
            ops=ops,
            lookahead=self.lookahead,
        )

    def _experts(self, at: str) -> Mapping[int, FeedForward]:
        return {i: self._feed_forward(f"{at}.experts.{i}") for i in range(self.config.n_routed_experts)}

    def _feed_forward(self, at: str) -> FeedForward:
        return FeedForward(
            *(self._weight(f"{at}.{name}.weight") for name in ("gate_proj", "up_proj", "down_proj"))
        )

    def _linear(self, at: str) -> Linear:
        return Linear(self._weight(f"{at}.weight"), self.ops)

    def _norm(self, at: str, eps: float | None = None) -> RMSNorm:
        return RMSNorm(
            self._float32(f"{at}.weight"), self.config.rms_norm_eps if eps is None else eps, self.ops
        )

    def _float32(self, name: str) -> Float32Array:
        weight = widen(self.source.read_weight(name))
        self._count(name, weight.nbytes)
        return weight

    def _weight(self, name: str) -> Matrix:
        stored = self.source.read_weight(name)
        self._count(name, bytes_held(codec_of(stored), stored.shape, self.ops, self.widens))
        return self.ops.hold(widen(stored) if self.widens and isinstance(stored, BFloat16) else stored)

    def _count(self, name: str, size: int) -> None:
        self._held[self._reader_of(name)] += size

    def _reader_of(self, name: str) -> str:
        """What reads a tensor, as a field of `HeldBytes`; `experts` are all of them together."""
        if ".mlp.experts." in name:
            return "experts"
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            return name
        is_main = not name.startswith(tuple(f"model.layers.{layer}." for layer in self.config.mtp_layers))
        return "dense" if is_main else "draft"

    def _held_bytes(self) -> HeldBytes:
        """Of all that was built."""
        config, held = self.config, self._held
        table = held["model.embed_tokens.weight"]
        routing = [*config.moe_layers, *filter(config.is_moe, config.mtp_layers[:1])]
        experts = len(routing) * config.n_routed_experts
        return HeldBytes(
            dense=held["dense"],
            head=table if config.tie_word_embeddings else held["lm_head.weight"],
            row=table // config.vocab_size,
            expert=self.streamed.expert_bytes if self.streamed else held["experts"] // max(1, experts),
            draft=held["draft"],
        )


def bytes_held(stored: Codec[Any], shape: tuple[int, ...], ops: Ops, widens: bool) -> int:
    """Bytes that a matrix takes in memory.

    stored  how it is stored; what the operations do not multiply by is held as float32
    widens  as in `ModelBuilder`
    """
    is_widened = not ops.holds_in_place(stored) or (widens and stored.name == "bf16")
    return (codec("f32") if is_widened else stored).bytes(shape)
