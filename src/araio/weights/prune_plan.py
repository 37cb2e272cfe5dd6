"""`plan_of`: what becomes of each tensor of a checkpoint when a profile's experts are all that is left.

Kept experts are numbered anew, and since every group keeps as many, each stays in its group. Experts of the
multi-token-prediction module are its own: it is cut by the profile's own choice for it, or left out with all
that belongs to it. Read `prune.py` for what is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from araio.config import ModelConfig
from araio.expert_profile import ExpertProfile
from araio.formats.checkpoint import SCALE_SUFFIX, Checkpoint
from araio.formats.layout import expert_of
from araio.formats.safetensors import SafetensorsFile, tensor_bytes

__all__ = ["Part", "plan_of"]

_GATE = re.compile(r"model\.layers\.(\d+)\.mlp\.gate\.(weight|e_score_correction_bias)")
_LAYER = re.compile(r"model\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """One tensor on its way: from where it lies, under its new name, some of its rows or all of them."""

    source: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    rows: tuple[int, ...] | None

    @property
    def bytes(self) -> int:
        return tensor_bytes(self.dtype, self.shape)

    def read(self, file: SafetensorsFile) -> npt.NDArray[Any]:
        stored = file.read(self.source)
        return stored if self.rows is None else stored[list(self.rows)]


def plan_of(
    config: ModelConfig, checkpoint: Checkpoint, profile: ExpertProfile, keeps_mtp: bool
) -> Iterator[tuple[SafetensorsFile, list[Part]]]:
    """For each shard that something is left of, what that is."""
    kept = dict(profile.keep)
    if keeps_mtp and profile.mtp is not None:
        kept[config.num_hidden_layers] = profile.mtp
    last = config.num_hidden_layers + int(keeps_mtp)
    for file in checkpoint.files:
        parts = [part for name in file if (part := _part(name, file, kept, last)) is not None]
        if parts:
            yield file, parts


def _part(name: str, file: SafetensorsFile, kept: Mapping[int, Sequence[int]], layers: int) -> Part | None:
    """What becomes of one tensor; None if it is left out.

    kept    experts by layer
    layers  how many there will be, with that of the prediction module
    """
    entry = file[name]
    if (found := _LAYER.match(name)) and int(found[1]) >= layers:
        return None
    if (gate := _GATE.fullmatch(name)) is not None:
        rows = tuple(kept[int(gate[1])])
        return Part(name, name, entry.dtype, (len(rows), *entry.shape[1:]), rows)
    suffix = SCALE_SUFFIX if name.endswith(SCALE_SUFFIX) else ""
    if (expert := expert_of(name.removesuffix(suffix))) is None:
        return Part(name, name, entry.dtype, entry.shape, None)
    layer, number, matrix = expert
    if number not in kept[layer]:
        return None
    # Groups are neighbours and keep as many each, so that places in order are numbers within the groups.
    place = list(kept[layer]).index(number)
    renamed = f"model.layers.{layer}.mlp.experts.{place}.{matrix}.weight{suffix}"
    return Part(name, renamed, entry.dtype, entry.shape, None)
