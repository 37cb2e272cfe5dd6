"""The architecture of `nn/` as differentiable PyTorch modules.

Modules and parameters are named as in the published checkpoints, so `train/checkpoint.py` needs no rename
table; only the routed experts differ, which are stacked into one tensor per projection here and are single
tensors on disk. This file knows nothing of devices, data types or ranks: those are applied from outside.
Read `nn/model.py` for the same equations without gradients, `train/loss.py` for what is minimised.

Shapes: B rows of a batch, T positions of a row, D hidden_size, H heads, N R V head sizes, C kv_lora_rank,
E routed experts, K experts per token, F moe_intermediate_size, W vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from araio.config import LATENT_NORM_EPS, ModelConfig
from araio.train.pools import Pools

__all__ = [
    "Context",
    "GroupedExperts",
    "MoE",
    "ModelOutput",
    "Route",
    "Router",
    "SparseModel",
    "grouped_linear",
]


@dataclass(frozen=True)
class Context:
    """What every layer needs to know about a batch of packed documents.

    cos, sin  (B, T, R/2)      rotary tables at each token's position within its own document
    mask      (B, 1, T, T)     True where a query may see a key: same document, not in the future
    pools     the experts that each document may choose from; all of them if None
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor
    pools: Pools | None = None

    def before_last(self) -> Context:
        """Of all positions but the last one of each row."""
        pools = self.pools.before_last() if self.pools is not None else None
        return Context(self.cos[:, :-1], self.sin[:, :-1], self.mask[:, :, :-1, :-1], pools)


@dataclass(frozen=True)
class ModelOutput:
    """Result of `SparseModel.forward`.

    hidden        (B, T, D)      final hidden states; `lm_head` makes scores of the next token of them
    mtp_hidden    (B, T-1, D)    the same for the token after that, or None without an MTP module
    routes        one `Route` for each routed layer, MTP last
    """

    hidden: Tensor
    mtp_hidden: Tensor | None
    routes: list[Route]


@dataclass(frozen=True)
class Route:
    """What one router decided for a batch.

    scores  (B, T, E)  affinities before any bias, with gradient
    ids     (B, T, K)  chosen experts
    """

    scores: Tensor
    ids: Tensor


class Linear(nn.Linear):
    """A bias-free linear layer that computes in its input's data type, whatever the master weight's is."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.RMSNorm):
    """RMSNorm that returns its input's data type."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class RotaryTable(nn.Module):
    """cos and sin with YaRN's frequencies (arXiv 2309.00071, section 3.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, theta, yarn = config.qk_rope_head_dim, config.rope_theta, config.rope_scaling
        frequency = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        self.multiplier = 1.0
        if yarn is not None:

            def dimension_of(rotations: float) -> float:
                span = yarn.original_max_position_embeddings / (rotations * 2 * math.pi)
                return dim * math.log(span) / (2 * math.log(theta))

            low = max(math.floor(dimension_of(yarn.beta_fast)), 0)
            high = min(math.ceil(dimension_of(yarn.beta_slow)), dim - 1)
            position = torch.arange(dim // 2, dtype=torch.float64)
            interpolated = ((position - low) / max(high - low, 1e-3)).clamp(0, 1)
            frequency = frequency * (1 - interpolated) + frequency / yarn.factor * interpolated
            self.multiplier = yarn_temperature(yarn.factor, yarn.mscale) / yarn_temperature(
                yarn.factor, yarn.mscale_all_dim
            )
        self.frequency: Tensor
        self.register_buffer("frequency", frequency.float(), persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        angle = positions[..., None].float() * self.frequency
        return angle.cos() * self.multiplier, angle.sin() * self.multiplier


def yarn_temperature(factor: float, mscale: float) -> float:
    """YaRN's attention temperature `0.1 * mscale * ln(factor) + 1`; 1 where nothing is extended."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate interleaved pairs (x0, x1), (x2, x3), ... of (B, T, h, R) by (B, T, R/2)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, :, None], sin[:, :, None]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class LatentAttention(nn.Module):
    """Multi-head latent attention in its expanded form (DeepSeek-V2 report, section 2.1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        D, H = config.hidden_size, config.num_attention_heads
        if config.q_lora_rank is None:
            self.q_proj = Linear(D, H * config.qk_head_dim)
        else:
            self.q_a_proj = Linear(D, config.q_lora_rank)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, LATENT_NORM_EPS)
            self.q_b_proj = Linear(config.q_lora_rank, H * config.qk_head_dim)
        self.kv_a_proj_with_mqa = Linear(D, config.latent_dim)
        self.kv_a_layernorm = RMSNorm(config.kv_lora_rank, LATENT_NORM_EPS)
        self.kv_b_proj = Linear(config.kv_lora_rank, H * (config.qk_nope_head_dim + config.v_head_dim))
        self.o_proj = Linear(H * config.v_head_dim, D)
        yarn = config.rope_scaling
        temperature = yarn_temperature(yarn.factor, yarn.mscale_all_dim) if yarn else 1.0
        self.scale = config.qk_head_dim**-0.5 * temperature**2

    def forward(self, x: Tensor, context: Context) -> Tensor:
        cfg = self.config
        B, T, _ = x.shape
        H, N, R, V = cfg.num_attention_heads, cfg.qk_nope_head_dim, cfg.qk_rope_head_dim, cfg.v_head_dim
        q = self.q_proj(x) if cfg.q_lora_rank is None else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q_nope, q_pe = q.view(B, T, H, N + R).split([N, R], dim=-1)
        c_kv, k_pe = self.kv_a_proj_with_mqa(x).split([cfg.kv_lora_rank, R], dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(c_kv)).view(B, T, H, N + V)
        k_nope, v = kv.split([N, V], dim=-1)
        q_pe = rotate(q_pe, context.cos, context.sin)
        k_pe = rotate(k_pe[:, :, None], context.cos, context.sin).expand(B, T, H, R)
        q = torch.cat((q_nope, q_pe), dim=-1).transpose(1, 2)
        k = torch.cat((k_nope, k_pe), dim=-1).transpose(1, 2)
        # Fused attention kernels want one head size for all three; zeros added to v come out as zeros.
        v = F.pad(v, (0, N + R - V)).transpose(1, 2) if N + R > V else v.transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=context.mask, scale=self.scale)
        y: Tensor = self.o_proj(out[..., :V].transpose(1, 2).reshape(B, T, H * V))
        return y


class MLP(nn.Module):
    """SwiGLU feed-forward: `down(silu(gate(x)) * up(x))`."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, width)
        self.up_proj = Linear(config.hidden_size, width)
        self.down_proj = Linear(width, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class Router(nn.Module):
    """Scores, bias, group limit, top-k and weights, in float32 whatever the model computes in.

    1. `s = sigmoid(x W^T)` (V3) or `softmax` (V2).
    2. The choice is made on `s + e_score_correction_bias`, within the best groups only.
    3. The weights are the unbiased `s` of the chosen. V3 normalises them if the config says so, and then
       scales (DeepSeek-V3 report, equations 12 to 16); V2 does one or the other.

    The rule, for one expert per token too, is that of `kernels/ops.py`, which cites the code behind it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        self.on_choice: Callable[[Tensor], Tensor] | None = None
        """Sees the chosen ids (B, T, K) and gives those to use, see `train/reason/replay.py`."""
        if config.has_router_bias:
            # Moved by train/balance.py between steps, never by a gradient.
            self.e_score_correction_bias: Tensor
            self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))

    def forward(self, x: Tensor, pools: Pools | None = None) -> tuple[Tensor, Route]:
        cfg = self.config
        logits_BTE = F.linear(x.float(), self.weight.float())
        scores_BTE = logits_BTE.sigmoid() if cfg.scoring_func == "sigmoid" else logits_BTE.softmax(-1)
        with torch.no_grad():
            ids_BTK = self.choose(scores_BTE, pools)
            if self.on_choice is not None:
                ids_BTK = self.on_choice(ids_BTK)
        weights_BTK = scores_BTE.gather(-1, ids_BTK)
        is_v3 = cfg.scoring_func == "sigmoid"
        normalises = cfg.norm_topk_prob and (is_v3 or cfg.num_experts_per_tok > 1)
        if normalises:
            weights_BTK = weights_BTK / (weights_BTK.sum(-1, keepdim=True) + 1e-20)
        if is_v3 or not normalises:
            weights_BTK = weights_BTK * cfg.routed_scaling_factor
        return weights_BTK, Route(scores_BTE, ids_BTK)

    def choose(self, scores_BTE: Tensor, pools: Pools | None = None) -> Tensor:
        """Ids (B, T, K) of the experts each token uses."""
        cfg = self.config
        choice = scores_BTE + self.e_score_correction_bias if cfg.has_router_bias else scores_BTE
        if pools is not None:
            choice = pools.restrict(choice, cfg.choice_groups)
        if cfg.topk_method != "greedy" and cfg.n_group > 1:
            grouped = choice.view(*choice.shape[:-1], cfg.n_group, -1)
            best = grouped.topk(2, -1).values.sum(-1) if cfg.has_router_bias else grouped.amax(-1)
            kept = torch.zeros_like(best, dtype=torch.bool).scatter_(
                -1, best.topk(cfg.topk_group, -1).indices, 1
            )
            # -inf, not 0: biased scores may be negative, and 0 would then win.
            choice = grouped.masked_fill(~kept[..., None], -math.inf).flatten(-2)
        return choice.topk(cfg.num_experts_per_tok, -1).indices


ROW_MULTIPLE = 64


class GroupedExperts(nn.Module):
    """All routed experts of a layer, one tensor a projection: gate and up (E, F, D), down (E, D, F).

    `project` is where a subclass may keep them in another way.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        E, D, width = config.n_routed_experts, config.hidden_size, config.moe_intermediate_size
        self.n_experts = E
        self.gate_proj = nn.Parameter(torch.empty(E, width, D))
        self.up_proj = nn.Parameter(torch.empty(E, width, D))
        self.down_proj = nn.Parameter(torch.empty(E, D, width))

    def forward(self, x_TD: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
        """Weighted sum of each token's experts: tokens sorted by expert, one matrix product an expert.

        Each expert's rows are padded with zeros to a multiple of `ROW_MULTIPLE`. Their number differs from
        step to step, and without it every product has a shape that was never seen before, for which oneDNN
        compiles a new kernel: measured on AVX-512 with bfloat16, that took more than half of a step.
        """
        K = ids_TK.shape[1]
        expert, order = ids_TK.flatten().sort(stable=True)
        token = order // K
        rows_E = torch.bincount(expert, minlength=self.n_experts)
        padded_E = (rows_E + ROW_MULTIPLE - 1) // ROW_MULTIPLE * ROW_MULTIPLE
        ends_E = padded_E.cumsum(0)
        shift_E = (ends_E - padded_E) - (rows_E.cumsum(0) - rows_E)
        row = torch.arange(len(token), device=x_TD.device) + shift_E[expert]
        x = x_TD.new_zeros(int(ends_E[-1]), x_TD.shape[1]).index_copy(0, row, x_TD.index_select(0, token))
        ends = ends_E.int()
        hidden = F.silu(self.project("gate_proj", x, ends)) * self.project("up_proj", x, ends)
        y = self.project("down_proj", hidden, ends).index_select(0, row)
        y = y * weights_TK.flatten()[order][:, None].to(x.dtype)
        return torch.zeros_like(x_TD).index_add(0, token, y)

    def project(self, matrix: str, x: Tensor, ends: Tensor) -> Tensor:
        """Rows x (n, in), sorted by expert, times their expert's matrix of that name, as `grouped_linear`."""
        return grouped_linear(x, getattr(self, matrix), ends)

    def forward_reference(self, x_TD: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
        """The definition that `forward` must equal: one expert after another, no grouping."""
        out = torch.zeros_like(x_TD)
        for expert in range(self.gate_proj.shape[0]):
            token, slot = (ids_TK == expert).nonzero(as_tuple=True)
            x = x_TD[token]
            hidden = F.silu(x @ self.gate_proj[expert].T) * (x @ self.up_proj[expert].T)
            y = (hidden @ self.down_proj[expert].T) * weights_TK[token, slot][:, None]
            out = out.index_add(0, token, y)
        return out


def grouped_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Rows x (n, in), sorted by expert, which ends at `ends` (E,), times its weight (E, out, in)."""
    return F.grouped_mm(x, weight.to(x.dtype).transpose(-2, -1), offs=ends)


class MoE(nn.Module):
    """Shared experts on every token plus the routed ones that the router chose."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = GroupedExperts(config)
        self.shared_experts = (
            MLP(config, config.n_shared_experts * config.moe_intermediate_size)
            if config.n_shared_experts
            else None
        )

    def forward(self, x: Tensor, pools: Pools | None = None) -> tuple[Tensor, Route]:
        weights, route = self.gate(x, pools)
        routed = self.experts(x.flatten(0, 1), weights.flatten(0, 1), route.ids.flatten(0, 1)).view_as(x)
        return (routed if self.shared_experts is None else routed + self.shared_experts(x)), route


class Block(nn.Module):
    """One transformer layer: attention and feed-forward, each behind an RMSNorm and added to the stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(D, eps)
        self.self_attn = LatentAttention(config)
        self.post_attention_layernorm = RMSNorm(D, eps)
        self.mlp = MoE(config) if config.is_moe(layer) else MLP(config, config.intermediate_size)

    def forward(self, x: Tensor, context: Context) -> tuple[Tensor, Route | None]:
        x = x + self.self_attn(self.input_layernorm(x), context)
        y = self.post_attention_layernorm(x)
        update, route = self.mlp(y, context.pools) if isinstance(self.mlp, MoE) else (self.mlp(y), None)
        return x + update, route


class SharedHead(nn.Module):
    """The MTP module's own final norm; embedding and output matrix are the main model's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class MTPBlock(Block):
    """A layer that sees one token further (DeepSeek-V3 report, section 2.2, equations 21 to 23)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        D, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = RMSNorm(D, eps)
        self.hnorm = RMSNorm(D, eps)
        self.eh_proj = Linear(2 * D, D)
        self.shared_head = SharedHead(config)

    def predict(
        self, next_embedding: Tensor, hidden: Tensor, context: Context
    ) -> tuple[Tensor, Route | None]:
        """Hidden state for the token after next; the published concatenation puts the embedding first."""
        x = self.eh_proj(torch.cat((self.enorm(next_embedding), self.hnorm(hidden)), dim=-1))
        x, route = self(x, context)
        return self.shared_head.norm(x), route


class Trunk(nn.Module):
    """Everything below the output matrix, under the published prefix `model.`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        blocks: list[Block] = [Block(config, layer) for layer in range(config.num_hidden_layers)]
        blocks += [MTPBlock(config, layer) for layer in config.mtp_layers]
        self.layers = nn.ModuleList(blocks)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class SparseModel(nn.Module):
    """A DeepSeek-V2/V3-class language model for training."""

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        self.model = Trunk(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.rotary = RotaryTable(config)

    def initialise(self, generator: torch.Generator, std: float = 0.02) -> None:
        """Draw every matrix from N(0, std); projections back into the stream shrink with depth (GPT-2)."""
        depth = (2 * self.config.num_hidden_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                into_stream = name.endswith(("o_proj.weight", "down_proj.weight", "experts.down_proj"))
                nn.init.normal_(parameter, 0.0, std * (depth if into_stream else 1.0), generator)

    def routers(self) -> list[Router]:
        """Routers from first layer to last, MTP included, in the order of `ModelOutput.routes`."""
        return [module for module in self.modules() if isinstance(module, Router)]

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor,
        positions: Tensor,
        with_mtp: bool = True,
        pools: Pools | None = None,
    ) -> ModelOutput:
        """Hidden states of a batch of packed documents; `logits` and `train/loss.py` take them further.

        tokens     (B, T) int64
        documents  (B, T) int64  number of the document each token belongs to, within its row
        positions  (B, T) int64  position of each token within its document
        pools      the experts that each document may choose from; all of them if None
        """
        context = replace(self.context(documents, positions), pools=pools)
        x = self.model.embed_tokens(tokens).to(self.compute_dtype)
        routes: list[Route | None] = []
        for block in self.model.layers[: self.config.num_hidden_layers]:
            x, route = block(x, context)
            routes.append(route)
        hidden = self.model.norm(x)
        mtp_hidden = None
        if with_mtp and self.config.num_nextn_predict_layers:
            mtp_hidden, route = self.look_further(tokens, hidden, context)
            routes.append(route)
        return ModelOutput(hidden, mtp_hidden, [route for route in routes if route is not None])

    def look_further(self, tokens: Tensor, hidden: Tensor, context: Context) -> tuple[Tensor, Route | None]:
        """Hidden states (B, T-1, D) for the token after next, from the first MTP module."""
        block = self.model.layers[self.config.num_hidden_layers]
        assert isinstance(block, MTPBlock)
        embedding = self.model.embed_tokens(tokens[:, 1:]).to(hidden.dtype)
        return block.predict(embedding, hidden[:, :-1], context.before_last())

    def logits(self, tokens: Tensor) -> Tensor:
        """Scores (B, T, W) in float32 of plain sequences (B, T), each one document from position 0."""
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        output = self(tokens, torch.zeros_like(tokens), positions, with_mtp=False)
        scores: Tensor = self.lm_head(output.hidden)
        return scores.float()

    def context(self, documents: Tensor, positions: Tensor) -> Context:
        """Rotary tables and attention mask; a token sees earlier tokens of its own document only."""
        T = documents.shape[1]
        causal = torch.ones(T, T, dtype=torch.bool, device=documents.device).tril()
        mask = causal & (documents[:, :, None] == documents[:, None, :])
        cos, sin = self.rotary(positions)
        return Context(cos.to(self.compute_dtype), sin.to(self.compute_dtype), mask[:, None])
