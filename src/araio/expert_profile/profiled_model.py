"""`ProfiledModel`: the model that a profile is of, as far as another one must be like it to use the profile.

Read `profile.py` for who compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from araio.config import ModelConfig
from araio.json_reader import shown

__all__ = ["ProfiledModel"]


@dataclass(frozen=True)
class ProfiledModel:
    """Its name, and what must be the same in the model that the profile is used with.

    fingerprint  of its routers, `nn.identity.router_fingerprint`
    layers       that choose experts, without those of the multi-token-prediction module
    """

    name: str
    fingerprint: str
    n_routed_experts: int
    num_experts_per_tok: int
    n_group: int
    topk_group: int
    layers: tuple[int, ...]

    @classmethod
    def of(cls, name: str, config: ModelConfig, fingerprint: str) -> ProfiledModel:
        """That of a config."""
        return cls(
            name,
            fingerprint,
            config.n_routed_experts,
            config.num_experts_per_tok,
            config.n_group,
            config.topk_group,
            tuple(config.moe_layers),
        )

    def difference(self, config: ModelConfig, fingerprint: str | None = None) -> str | None:
        """What tells this model from that of a config, as the end of a sentence; None if nothing does.

        fingerprint  of that model's routers; None leaves them out
        """
        there = ProfiledModel.of(self.name, config, fingerprint or self.fingerprint)
        # A hash tells people nothing, so it comes last.
        for key, value in sorted(asdict(there).items(), key=lambda entry: entry[0] == "fingerprint"):
            if value != (own := getattr(self, key)):
                return f"{self.name}, whose {key} = {shown(own)}; this model has {shown(value)}"
        return None

    def group_counts(self, ids: Sequence[int]) -> list[int]:
        """How many of these experts each group has; a group's experts are neighbours."""
        counts = [0] * self.n_group
        for expert in ids:
            counts[expert // (self.n_routed_experts // self.n_group)] += 1
        return counts
