"""The usage file: what experts of a model were worth when it last ran, so that the next run begins with them.

    ~/.cache/araio/usage/NAME.json   {"form": 1, "folder": ..., "worth": [[0.52, 0, ...], ...]}

The worth is by layer and expert.

One for each folder of weights and each set of pins, and for each mask that every request has. It is a cache:
one that is missing, damaged or of another shape is as good as none, and a run that cannot write it says so
and has lost nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from araio.atomic import write_text
from araio.json_reader import read_object

__all__ = ["UsageFile", "model_file"]

FORM = 1
_MAX_BYTES = 16 << 20


class UsageFile:
    """The file of one model.

    folder  of its weights
    files   that hold its experts
    pins    experts that stay, or are preferred, by layer: runs with others have other habits
    shape   layers by experts
    mask    id of the mask that every request has: with it, no others are used
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path],
        pins: Mapping[int, Collection[int]],
        shape: tuple[int, int],
        mask: str | None = None,
    ) -> None:
        self._folder, self._shape = folder.resolve(), shape
        kept = sorted((layer, sorted(ids)) for layer, ids in pins.items())
        self.path = model_file("usage", folder, files, kept if mask is None else [kept, mask])

    def read(self) -> npt.NDArray[np.float64] | None:
        """Worth (layers * experts,); None where there is none that can be used."""
        try:
            document = read_object(self.path, _MAX_BYTES)
            worth = np.array(document["worth"], np.float64)
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            return None
        is_sound = document.get("form") == FORM and worth.shape == self._shape
        return worth.ravel() if is_sound and np.isfinite(worth).all() and (worth >= 0).all() else None

    def write(self, worth: npt.NDArray[np.float64]) -> None:
        """Replace the file; a note on stderr where that cannot be done."""
        layers = [[_short(value) for value in layer] for layer in worth.reshape(self._shape).tolist()]
        document = {"form": FORM, "folder": str(self._folder), "worth": layers}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(document) + "\n")
        except OSError as error:
            sys.stderr.write(f"{self.path}: what experts were used could not be kept ({error.strerror})\n")


def model_file(kind: str, folder: Path, files: Sequence[Path], more: object) -> Path:
    """The file of the user's cache for what is known of a model, one for each kind of knowledge.

    folder  of the model
    files   that make it this model and no other
    more    that the knowledge depends on, of what JSON can hold
    """
    folder = folder.resolve()
    identity: list[object] = [str(folder), more]
    # A model that was written anew in the same place is another one.
    identity += [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return _cache_folder() / kind / f"{folder.name}-{digest[:16]}.json"


def _short(value: float) -> float:
    """Three digits say enough."""
    return 0.0 if value == 0 else round(value, 2 - math.floor(math.log10(value)))


def _cache_folder() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME", "")
    # Whoever has no home has a `~` of that name, which is where a note about a failure to write will point.
    return Path(folder if folder.startswith("/") else os.path.expanduser("~/.cache")) / "araio"  # noqa: PTH111
