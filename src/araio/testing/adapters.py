"""Adapters whose experts are those of a checkpoint moved a little, without any training.

Read `weights/adapter.py` for what an adapter is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from araio.codecs import codec, codec_of
from araio.expert_profile import ProfiledModel
from araio.formats.checkpoint import Checkpoint
from araio.kernels.widen import widen
from araio.tensors import BFloat16, Float32Array
from araio.weights.adapter import Adapter, digest_of
from araio.weights.load import open_checked
from araio.weights.routers import stored_fingerprint

__all__ = ["write_adapter"]


def write_adapter(
    folder: Path, source: Path, experts: Mapping[int, Sequence[int]], seed: int = 0
) -> dict[str, Float32Array | BFloat16]:
    """Write an adapter of these experts of a checkpoint, in bfloat16; its tensors by name."""
    rng = np.random.default_rng(seed)
    with open_checked(source) as (config, stored):
        assert isinstance(stored, Checkpoint)
        model = ProfiledModel.of("tiny", config, stored_fingerprint(config, stored))
        plain = Adapter(None, folder.name, model, experts, "", "bf16")
        first = codec_of(stored.read_weight(plain.names[0])).name
        adapter = Adapter(None, folder.name, model, experts, digest_of(stored, plain.names), first)
        tensors: dict[str, Float32Array | BFloat16] = {}
        for name in adapter.names:
            weight = widen(stored.read_weight(name))
            moved = weight + 0.5 * weight.std() * rng.standard_normal(weight.shape).astype(np.float32)
            tensors[name] = codec("bf16").encode(moved)
    adapter.save(folder, tensors)
    return tensors
