"""`stored_fingerprint`: which routers a stored model has, before a model is made of it.

Read `nn/identity.py` for what the number says.
"""

from __future__ import annotations

from araio.config import ModelConfig
from araio.kernels.widen import widen
from araio.nn.identity import fingerprint_of
from araio.tensors import Float32Array
from araio.weights.build import WeightSource

__all__ = ["stored_fingerprint"]


def stored_fingerprint(config: ModelConfig, source: WeightSource) -> str:
    """The fingerprint of the main model's routers; all of them are read."""
    return fingerprint_of(config, (_router(config, source, layer) for layer in config.moe_layers))


def _router(
    config: ModelConfig, source: WeightSource, layer: int
) -> tuple[Float32Array, Float32Array | None]:
    """A router's weight and bias as the model holds them."""
    at = f"model.layers.{layer}.mlp.gate."
    weight = widen(source.read_weight(at + "weight"))
    if not config.has_router_bias:
        return weight, None
    return weight, widen(source.read_weight(at + "e_score_correction_bias"))
