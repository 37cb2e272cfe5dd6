"""The MTP module against an independent formulation in torch, written from the equations of the V3 report.

Transformers finds MTP weights only in models of exactly 61 layers, so it cannot be the oracle here. This one
shares no code with the package but the reading of tensors: expanded attention with an explicit mask, complex
rotation, every expert on every token.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from araio.config import ModelConfig
from araio.formats.checkpoint import Checkpoint
from araio.kernels.widen import widen
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.load import load_model

PLAIN_ROPE = {"rope_scaling": None, "max_position_embeddings": 256}


class Oracle:
    def __init__(self, checkpoint: Checkpoint, config: ModelConfig) -> None:
        self.checkpoint = checkpoint
        self.config = config
        self.at = f"model.layers.{config.num_hidden_layers}."

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(widen(self.checkpoint.read_weight(name)))

    def own(self, name: str) -> Tensor:
        return self.tensor(self.at + name + ".weight")

    def norm(self, x: Tensor, name: str) -> Tensor:
        return rms_norm(x, x.shape[-1:], self.own(name), self.config.rms_norm_eps)

    def logits(self, next_ids: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        embedded = self.tensor("model.embed_tokens.weight")[torch.from_numpy(next_ids)]
        both = [self.norm(embedded, "enorm"), self.norm(torch.from_numpy(hidden), "hnorm")]
        x = torch.cat(both, dim=1) @ self.own("eh_proj").T
        x = x + self.attention(self.norm(x, "input_layernorm"))
        x = x + self.moe(self.norm(x, "post_attention_layernorm"))
        return (self.norm(x, "shared_head.norm") @ self.tensor("lm_head.weight").T).numpy()

    def rotated(self, x: Tensor) -> Tensor:
        T, R = x.shape[0], self.config.qk_rope_head_dim
        angles = torch.outer(torch.arange(T), self.config.rope_theta ** (-torch.arange(0, R, 2) / R))
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], R // 2, 2).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)[:, None]).flatten(-2)

    def attention(self, x: Tensor) -> Tensor:
        config, T = self.config, len(x)
        H, N, C = config.num_attention_heads, config.qk_nope_head_dim, config.kv_lora_rank
        q = self.norm(x @ self.own("self_attn.q_a_proj").T, "self_attn.q_a_layernorm")
        q = (q @ self.own("self_attn.q_b_proj").T).view(T, H, config.qk_head_dim)
        latent = x @ self.own("self_attn.kv_a_proj_with_mqa").T
        c_kv = self.norm(latent[:, :C], "self_attn.kv_a_layernorm")
        kv = (c_kv @ self.own("self_attn.kv_b_proj").T).view(T, H, N + config.v_head_dim)
        k_pe = self.rotated(latent[:, None, C:]).expand(T, H, config.qk_rope_head_dim)
        q = torch.cat([q[..., :N], self.rotated(q[..., N:])], dim=2)
        k = torch.cat([kv[..., :N], k_pe], dim=2)
        scores = torch.einsum("thx,shx->hts", q, k) / config.qk_head_dim**0.5
        scores += torch.full((T, T), -torch.inf).triu(1)
        y = torch.einsum("hts,shv->thv", scores.softmax(-1), kv[..., N:])
        return y.flatten(1) @ self.own("self_attn.o_proj").T

    def moe(self, x: Tensor) -> Tensor:
        config, bias = self.config, self.tensor(self.at + "mlp.gate.e_score_correction_bias")
        scores = torch.sigmoid(x @ self.own("mlp.gate").T)
        choice = (scores + bias).view(len(x), config.n_group, -1)
        group_scores = choice.sort(dim=2).values[..., -2:].sum(2)
        kept = group_scores >= group_scores.sort(1, descending=True).values[:, config.topk_group - 1, None]
        choice = choice.masked_fill(~kept[..., None], -torch.inf).flatten(1)
        chosen = choice >= choice.sort(1, descending=True).values[:, config.num_experts_per_tok - 1, None]
        weights = torch.where(chosen, scores, 0)
        weights = config.routed_scaling_factor * weights / weights.sum(1, keepdim=True)
        routed = [self.expert(x, f"mlp.experts.{e}") for e in range(config.n_routed_experts)]
        return self.expert(x, "mlp.shared_experts") + torch.einsum("te,etd->td", weights, torch.stack(routed))

    def expert(self, x: Tensor, at: str) -> Tensor:
        gate, up, down = (self.own(f"{at}.{name}_proj") for name in ("gate", "up", "down"))
        return (silu(x @ gate.T) * (x @ up.T)) @ down.T


@pytest.mark.parametrize("chunks", [[], [1], [10, 11, 12]])
def test_it_predicts_what_the_equations_say(tmp_path: Path, chunks: list[int]) -> None:
    config = write_tiny_checkpoint(tmp_path, "v3", seed=3, **PLAIN_ROPE)
    model = load_model(tmp_path)
    assert model.mtp is not None
    ids = np.random.default_rng(0).integers(0, config.vocab_size, 30)
    hidden = model.forward(ids, model.new_cache("float32"))
    with Checkpoint.open(tmp_path) as checkpoint:
        expected = Oracle(checkpoint, config).logits(ids[1:], hidden[:-1])

    cache = model.mtp.new_cache("float32")
    pieces = zip(np.split(ids[1:], chunks), np.split(hidden[:-1], chunks), strict=True)
    states = [model.mtp.forward(next_ids, before, cache) for next_ids, before in pieces]
    np.testing.assert_allclose(model.logits(np.concatenate(states)), expected, rtol=0, atol=1e-4)
