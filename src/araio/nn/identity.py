"""`router_fingerprint`: which routers a model has, as one number that traces and profiles carry.

Two models have the same one if they would choose the same experts for the same hidden states: a checkpoint,
its store in other bits, a copy of it, and the same model with its experts tuned. Whoever holds numbers by
expert compares it before using them. Read `router.py` for what decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np

from araio.config import ModelConfig
from araio.nn.model import Model
from araio.tensors import Float32Array

__all__ = ["fingerprint_of", "router_fingerprint"]

# Whatever would change the rule of choosing changes the number.
ROUTING_KEYS = (
    "n_routed_experts",
    "num_experts_per_tok",
    "n_group",
    "topk_group",
    "scoring_func",
    "topk_method",
    "norm_topk_prob",
    "routed_scaling_factor",
    "num_hidden_layers",
)


def router_fingerprint(model: Model) -> str:
    """SHA-256, in hex, of what decides the routes of the main model; see `fingerprint_of`."""
    rows = np.arange(model.config.n_routed_experts)
    # A backend holds matrices in its own way; its look-up of rows gives them back as they were.
    weights = (
        (model.ops.embed(rows, router.weight), router.e_score_correction_bias)
        for router in model.routers
        if router.layer in model.config.moe_layers
    )
    return fingerprint_of(model.config, weights)


def fingerprint_of(config: ModelConfig, routers: Iterable[tuple[Float32Array, Float32Array | None]]) -> str:
    """The same of a config and of its routed layers' weights and biases, in order, wherever they come from.

    That is the keys of the config that routing depends on, the numbers of the routed layers, and the float32
    weight and bias of each of their routers. All of them are read once: for R1, 0.4 GB.
    """
    document = {key: getattr(config, key) for key in ROUTING_KEYS} | {"moe_layers": list(config.moe_layers)}
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for weight, bias in routers:
        digest.update(weight.astype("<f4", copy=False).tobytes())
        if bias is not None:
            digest.update(bias.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()
