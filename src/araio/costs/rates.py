"""`Rates`: what a unit of counted work costs in one model, in multiply-adds.

`flops.py` has the same costs in closed form, from a config and a length alone; the two agree, which tests
hold. Read `work.py` for what is counted.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

from araio.config import ModelConfig
from araio.costs.census import census
from araio.costs.flops import OPERATIONS_PER_MULTIPLY_ADD, decode_flops
from araio.costs.work import Work

__all__ = ["Rates"]


@dataclass(frozen=True)
class Rates:
    """Multiply-adds of a unit of work, in the main model or in its MTP module.

    token          with every matrix but those below
    expansion      of a latent with `kv_b_proj`, in all layers: to keys and values, or, absorbed, of a query
                   and what it found
    score          with the output matrix
    expert         with one routed expert
    absorbed_pair  of a query and a position, in all layers and heads
    expanded_pair  the same in the other form
    experts        routed experts in all layers
    """

    token: int
    expansion: int
    score: int
    expert: int
    absorbed_pair: int
    expanded_pair: int
    experts: int

    @classmethod
    def of_model(cls, config: ModelConfig) -> Rates:
        """Those of the main model."""
        return cls._of(config, ["mtp"], config.num_hidden_layers, len(config.moe_layers))

    @classmethod
    def of_mtp(cls, config: ModelConfig) -> Rates:
        """Those of the first MTP module, the one that drafts; the output matrix is the main model's."""
        one = replace(config, num_nextn_predict_layers=min(1, config.num_nextn_predict_layers))
        others = {group.part for group in census(one)} - {"mtp"}
        layers = len(one.mtp_layers)
        return cls._of(one, others, layers, sum(map(one.is_moe, one.mtp_layers)))

    @classmethod
    def _of(cls, config: ModelConfig, without: Container[str], layers: int, routing: int) -> Rates:
        """Of the parts that are not left out, which have so many layers, and so many that route."""
        groups = [group for group in census(config) if group.part not in without and len(group.shape) == 2]
        active = sum(group.size * group.used for group in groups)
        expert = 3 * config.hidden_size * config.moe_intermediate_size
        head = config.vocab_size * config.hidden_size
        kv_b_rows = config.num_attention_heads * (config.qk_nope_head_dim + config.v_head_dim)
        expansion = layers * kv_b_rows * config.kv_lora_rank
        has_head = "mtp" in without
        per_layer = OPERATIONS_PER_MULTIPLY_ADD * config.num_hidden_layers
        return cls(
            token=active - expansion - routing * config.num_experts_per_tok * expert - head * has_head,
            expansion=expansion,
            score=head,
            expert=expert,
            absorbed_pair=layers * (decode_flops(config, 1, "absorbed").attention // per_layer),
            expanded_pair=layers * (decode_flops(config, 1, "expanded").attention // per_layer),
            experts=routing * config.n_routed_experts,
        )

    def flops(self, work: Work) -> int:
        """Operations that the work took."""
        return OPERATIONS_PER_MULTIPLY_ADD * (
            work.tokens * self.token
            + (work.absorbed + work.expanded_positions) * self.expansion
            + work.scores * self.score
            + work.expert_uses * self.expert
            + work.absorbed_pairs * self.absorbed_pair
            + work.expanded_pairs * self.expanded_pair
        )

    def dense_flops(self, work: Work) -> int:
        """Operations of a model of the same size that gives every token to every expert."""
        return self.flops(replace(work, expert_uses=work.tokens * self.experts))
