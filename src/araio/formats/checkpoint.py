"""A folder of safetensors shards and their index as one lazy mapping from tensor name to place.

Only headers are read when a checkpoint is opened. `Checkpoint.check` holds names, shapes and types against
what a config calls for, `Checkpoint.read_weight` looks for damage in the numbers. Read `shards.py` for the
files and `layout.py` for the names below it, `weights/load.py` for the model made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.codecs import Codec, codec, codec_of
from araio.config import ModelConfig
from araio.errors import CheckpointError
from araio.formats import layout
from araio.formats.safetensors import SafetensorsFile, TensorEntry
from araio.formats.shards import open_shards
from araio.json_reader import shown
from araio.tensors import BFloat16, BlockFP8, Float32Array, Weight

__all__ = ["SCALE_SUFFIX", "Checkpoint"]

SCALE_SUFFIX = "_scale_inv"

_FLOAT_TYPES = ("F32", "BF16", "F16")
_CODEC_NAMES = {"F32": "f32", "F16": "f32", "BF16": "bf16", "F8_E4M3": "fp8"}


class Checkpoint(Mapping[str, TensorEntry]):
    """Every tensor of one folder, by name; `read` and `read_weight` fetch them one at a time.

    block  rows and columns that share one scale in FP8 weights
    """

    def __init__(self, folder: Path, files: list[SafetensorsFile], block: tuple[int, int]) -> None:
        self.folder = folder
        self.block = block
        self.files = files
        self._homes = {name: file for file in files for name in file}

    @classmethod
    def open(cls, folder: Path, block: tuple[int, int] = (128, 128)) -> Checkpoint:
        """Read the index and every shard's header.

        Raises CheckpointError when shards and index contradict each other or leave the folder, and
        FormatError when a shard is malformed.
        """
        return cls(folder, open_shards(folder), block)

    def __getitem__(self, name: str) -> TensorEntry:
        return self._homes[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every shard; tensors already read stay valid."""
        for file in self.files:
            file.close()

    # ------------------------------------------------------------------ reading

    def read(self, name: str) -> Float32Array | BFloat16:
        """One tensor that is not quantised; float16 is widened to float32, which loses nothing."""
        stored = self._fetch(name)
        dtype = self[name].dtype
        if dtype == "BF16":
            return BFloat16(stored)
        if dtype in _FLOAT_TYPES:
            return stored.astype(np.float32, copy=False)
        raise self._failure(name, f"is stored as {dtype}; expected " + ", ".join(_FLOAT_TYPES))

    def read_weight(self, name: str) -> Weight:
        """One weight as it is stored; FP8 comes with its scales, from whichever shard holds them.

        Raises CheckpointError for NaN and infinities, whose only other trace would be logits without a cause.
        """
        weight = self._read_fp8(name) if name in self and self[name].dtype == "F8_E4M3" else self.read(name)
        if not codec_of(weight).is_finite(weight):
            raise self._failure(name, "holds NaN or infinity; the file is damaged, download it again")
        return weight

    def codec(self, name: str) -> Codec[Any]:
        """How `read_weight` gives a tensor."""
        return codec(_CODEC_NAMES[self[name].dtype], self.block)

    def _read_fp8(self, name: str) -> BlockFP8:
        scale_name = self._check_scale(name)
        scale = self._fetch(scale_name)
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise self._failure(scale_name, "holds a scale that is not a positive number")
        return BlockFP8(self._fetch(name), scale, self.block)

    def _fetch(self, name: str) -> npt.NDArray[Any]:
        home = self._homes.get(name)
        if home is None:
            raise CheckpointError(f"{self.folder}: tensor {shown(name)} is missing from the checkpoint")
        return home.read(name)

    def _failure(self, name: str, found: str) -> CheckpointError:
        return CheckpointError(f"{self._homes[name].path}: tensor {shown(name)} {found}")

    def _check_scale(self, name: str) -> str:
        """The name of an FP8 weight's scales, once they are known to be there in type and shape."""
        shape, scale_name = self[name].shape, name + SCALE_SUFFIX
        if len(shape) != 2:
            raise self._failure(name, f"is FP8 with shape {list(shape)}; expected a matrix")
        if scale_name not in self:
            raise self._failure(name, f"is FP8, but its scales {scale_name} are missing")
        found, expected = self[scale_name], (-(-shape[0] // self.block[0]), -(-shape[1] // self.block[1]))
        if (found.dtype, found.shape) != ("F32", expected):
            raise self._failure(
                scale_name, f"is {found.dtype} {list(found.shape)}; expected F32 {list(expected)}"
            )
        return scale_name

    # ------------------------------------------------------------------ checking

    def holds_mtp(self, config: ModelConfig) -> bool:
        """Whether any tensor of the config's MTP layers is stored; some tools drop them all on saving."""
        return any(name in self for name, _ in layout.mtp_tensors(config))

    def check(self, config: ModelConfig) -> None:
        """Hold names, shapes and types against the config; raises CheckpointError for what does not fit.

        MTP layers must be complete or absent. Copies of shared tensors may be absent too.
        """
        self._refuse_missing(layout.main_tensors(config))
        expected = dict(layout.main_tensors(config))
        if self.holds_mtp(config):
            self._refuse_missing(layout.mtp_tensors(config))
            expected.update(layout.mtp_tensors(config))
        allowed = expected | layout.optional_tensors(config)
        self._refuse_extra([name for name in self if not self._is_known(name, allowed)])
        for name, shape in allowed.items():
            if name in self:
                self._check_tensor(name, shape)

    def _is_known(self, name: str, allowed: Mapping[str, Any]) -> bool:
        if name in allowed or layout.is_ignored(name):
            return True
        # A scale is known by the FP8 weight it belongs to, never by its own name.
        owner = name.removesuffix(SCALE_SUFFIX)
        return owner != name and owner in allowed and owner in self and self[owner].dtype == "F8_E4M3"

    def _check_tensor(self, name: str, shape: tuple[int, ...]) -> None:
        found = self[name]
        if found.shape != shape:
            raise self._failure(name, f"has shape {list(found.shape)}; config.json calls for {list(shape)}")
        if found.dtype in _FLOAT_TYPES:
            return
        if found.dtype == "F8_E4M3" and layout.can_be_fp8(name):
            self._check_scale(name)
            return
        raise self._failure(name, f"is stored as {found.dtype}; expected " + " or ".join(_FLOAT_TYPES))

    def _refuse_missing(self, tensors: layout.Named) -> None:
        # Only the first few are looked for: a hostile config calls for more names than memory holds.
        missing = list(islice((name for name, _ in tensors if name not in self), 4))
        if missing:
            raise CheckpointError(
                f"{self.folder}: config.json calls for {_some(missing)}, not stored here; "
                "the download is incomplete or config.json belongs to another model"
            )

    def _refuse_extra(self, names: list[str]) -> None:
        if names:
            raise CheckpointError(
                f"{self._homes[names[0]].path}: holds {_some(names)}, which config.json does not call for; "
                "config.json belongs to another model"
            )


def _some(names: list[str]) -> str:
    few = ", ".join(shown(name) for name in names[:3])
    return f"tensor {few}" if len(names) == 1 else f"tensors {few}" + (" and more" if len(names) > 3 else "")
