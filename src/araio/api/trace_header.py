"""The header of a recording: whose routes they are, before the first token and once all have run.

Read `traces/header.py` for what the fields mean, `recording.py` for who asks.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import araio
from araio.config import ModelConfig
from araio.errors import AraioError
from araio.nn.approximations import TopN
from araio.traces import TraceHeader
from araio.weights.locate import locate

if TYPE_CHECKING:
    from araio.api.model import Model

__all__ = ["completed", "row_bytes", "trace_header", "weight_scale"]


def trace_header(model: Model, layers: tuple[int, ...], domain: str) -> TraceHeader:
    """What is known before the first token.

    layers  numbers of those that are kept
    """
    config, approximation = model.config, model.network.approximation
    width = approximation.count if isinstance(approximation, TopN) else config.num_experts_per_tok
    return TraceHeader(
        model=model.label,
        fingerprint=model.fingerprint,
        layers=layers,
        mtp_layers=tuple(layer for layer in config.mtp_layers[:1] if config.is_moe(layer)),
        n_routed_experts=config.n_routed_experts,
        top_k=width,
        n_group=config.n_group,
        topk_group=config.topk_group,
        scoring_func=config.scoring_func,
        # The weights that are left of a wider choice add up to less.
        norm_topk_prob=config.norm_topk_prob and width == config.num_experts_per_tok,
        routed_scaling_factor=config.routed_scaling_factor,
        engine=f"araio {araio.__version__}",
        precision=_precision(config),
        tokenizer=_tokenizer_id(model.name),
        domains=(domain,),
    )


def completed(header: TraceHeader, masks: Collection[str], has_drafts: bool) -> TraceHeader:
    """The header with what is known of it only at the end.

    masks  ids of those that requests had, empty for none
    """
    profiles = sorted(mask or "none" for mask in masks)
    return replace(
        header,
        mtp_layers=header.mtp_layers if has_drafts else (),
        profile=None if profiles in ([], ["none"]) else ", ".join(profiles),
    )


def weight_scale(config: ModelConfig) -> float:
    """What routers multiply their weights by at the end; see `kernels.reference.route`."""
    is_normed = config.scoring_func == "softmax" and config.norm_topk_prob and config.num_experts_per_tok > 1
    return 1.0 if is_normed else config.routed_scaling_factor


def row_bytes(header: TraceHeader) -> int:
    """Of a token in a shard, at the most: two of each id, two of each weight, two of each margin."""
    return len(header.layers) * (4 * header.top_k + 2) + 16


def _precision(config: ModelConfig) -> str | None:
    """Of the weights, as the model was published."""
    if config.quantization_config is not None:
        return "fp8"
    dtype = config.source.get("torch_dtype", config.source.get("dtype"))
    return dtype if isinstance(dtype, str) else None


def _tokenizer_id(name: str) -> str | None:
    """SHA-256 of the model's `tokenizer.json`; None if its folder is not there any more."""
    try:
        return sha256((locate(name) / "tokenizer.json").read_bytes()).hexdigest()
    except (AraioError, OSError):
        return None
