"""A model with a mask is the smaller model of the experts that are kept (invariant of every profile).

The smaller checkpoint is made here in plain NumPy: rows of the gate, numbers of its bias, and matrices of
experts, renumbered in their order. Both araio and transformers load it, and must give what the whole model
gives with the mask.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from araio.config import ModelConfig
from araio.expert_profile import ExpertProfile
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import expected_tensors, expert_of
from araio.formats.write import write_checkpoint
from araio.kernels import reference
from araio.kernels.ops import Ops
from araio.kernels.select import select
from araio.nn.identity import router_fingerprint
from araio.nn.mask import ExpertMask
from araio.nn.model import Model
from araio.tensors import BFloat16, Weight
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.testing.profiles import profile_of
from araio.weights.load import load_model

from .oracle import TOLERANCE, load_oracle, their_logits

FAMILIES = ["v2-lite", "v2", "v3", "v3-fp8", "moonlight"]
EXPERTS, KEPT_OF_GROUP = 16, {1: 9, 4: 3}  # by the number of groups


def kept(config: ModelConfig) -> dict[int, list[int]]:
    """As many of every group, others in every layer."""
    size, count = EXPERTS // config.n_group, KEPT_OF_GROUP[config.n_group]
    rng = np.random.default_rng(7)
    return {
        layer: [
            size * group + place
            for group in range(config.n_group)
            for place in sorted(rng.permutation(size)[:count].tolist())
        ]
        for layer in config.moe_layers
    }


def sliced(
    checkpoint: Checkpoint, config: ModelConfig, keep: dict[int, list[int]]
) -> Iterator[tuple[str, Weight]]:
    """The tensors of the smaller model, bits as they were; the prediction module is left out."""
    for name in expected_tensors(replace(config, num_nextn_predict_layers=0)):
        weight = checkpoint.read_weight(name)
        if (expert := expert_of(name)) is not None:
            layer, old, matrix = expert
            if old in keep[layer]:
                new = keep[layer].index(old)
                yield f"model.layers.{layer}.mlp.experts.{new}.{matrix}.weight", weight
        elif found := re.fullmatch(r"model\.layers\.(\d+)\.mlp\.gate\..*", name):
            ids = keep[int(found[1])]
            yield name, BFloat16(weight.bits[ids]) if isinstance(weight, BFloat16) else weight[ids]
        else:
            yield name, weight


@pytest.fixture(scope="module", params=FAMILIES)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint, and the smaller one of the experts that `kept` says."""
    whole, small = (tmp_path_factory.mktemp(f"{request.param}-{size}") for size in ("whole", "small"))
    config = write_tiny_checkpoint(whole, request.param, seed=2, n_routed_experts=EXPERTS)
    keep = kept(config)
    with Checkpoint.open(whole) as checkpoint:
        write_checkpoint(small, sliced(checkpoint, config, keep))
    smaller = replace(config, n_routed_experts=len(keep[1]), num_nextn_predict_layers=0)
    smaller.save(small / "config.json")
    return whole, small


def masked(model: Model) -> tuple[ExpertProfile, ExpertMask]:
    profile = profile_of(model.config, kept(model.config), router_fingerprint(model))
    profile.check(model.config, router_fingerprint(model))
    assert profile.is_uniform
    return profile, ExpertMask(profile)


def logits(model: Model, ids: np.ndarray, mask: ExpertMask | None = None) -> np.ndarray:
    """Of a prompt, and of as many decoded tokens behind it."""
    cache, half = model.new_cache("float32"), len(ids) // 2
    hidden = [model.forward(ids[:half], cache, mask=mask)]
    hidden += [
        model.forward(ids[at : at + 1], cache, absorbed=True, mask=mask) for at in range(half, len(ids))
    ]
    return model.logits(np.concatenate(hidden))


@pytest.mark.parametrize("ops", [pytest.param(None, id="best"), pytest.param(reference.OPS, id="reference")])
def test_a_mask_is_the_smaller_model(folders: tuple[Path, Path], ops: Ops | None) -> None:
    whole, small = (load_model(folder, ops or select().ops) for folder in folders)
    ids = np.random.default_rng(0).integers(0, whole.config.vocab_size, 60)
    _, mask = masked(whole)
    with_mask, without = logits(whole, ids, mask), logits(whole, ids)
    np.testing.assert_allclose(with_mask, logits(small, ids), rtol=0, atol=1e-5)
    assert np.abs(with_mask - without).max() > 0.05  # it does hide something


def test_a_mask_is_the_smaller_model_of_transformers(folders: tuple[Path, Path]) -> None:
    whole, small = load_model(folders[0]), ModelConfig.from_file(folders[1])
    ids = np.random.default_rng(1).integers(0, whole.config.vocab_size, 60)
    _, mask = masked(whole)
    expected = their_logits(load_oracle(folders[1], small), ids)
    np.testing.assert_allclose(logits(whole, ids, mask), expected, **TOLERANCE)
