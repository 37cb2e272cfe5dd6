"""`adapted`: a stored model whose tuned experts are those of an adapter, to be loaded or converted.

Where the model stores its experts as the adapter does, theirs are simply found in another file, also while
the model runs with its experts on disk. Where it stores them in fewer bits, tuned experts are put into the
same bits as they are read, which is what converting the tuned model would have done. Read `adapter.py` for
what an adapter is and which models it refuses, `load.py` and `convert.py` for who asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from araio.codecs import Codec
from araio.config import ModelConfig
from araio.formats.checkpoint import Checkpoint
from araio.formats.safetensors import SafetensorsFile
from araio.formats.store import Store
from araio.kernels.widen import widen
from araio.tensors import Weight
from araio.weights.adapter import Adapter

__all__ = ["Recoded", "Stored", "adapted"]


class Recoded:
    """A model whose tuned experts get the codec of those in whose place they come.

    stored  the model as it is on disk
    tuned   the adapter's experts
    """

    def __init__(self, stored: Checkpoint | Store, tuned: Checkpoint) -> None:
        self.stored, self.tuned = stored, tuned
        self.block = stored.block

    @property
    def folder(self) -> Path:
        return self.stored.folder

    @property
    def files(self) -> list[SafetensorsFile]:
        return [*self.stored.files, *self.tuned.files]

    def holds_mtp(self, config: ModelConfig) -> bool:
        """As `Checkpoint.holds_mtp`."""
        return self.stored.holds_mtp(config)

    def codec(self, name: str) -> Codec[Any]:
        """How `read_weight` gives a tensor."""
        return self.stored.codec(name)

    def read_weight(self, name: str) -> Weight:
        """One weight; raises CheckpointError for a damaged one."""
        if name not in self.tuned:
            return self.stored.read_weight(name)
        weight, wanted = self.tuned.read_weight(name), self.codec(name)
        if wanted.holds(weight):
            return weight
        recoded: Weight = wanted.encode(widen(weight))
        return recoded


Stored: TypeAlias = Checkpoint | Store | Recoded
"""What a model is made of."""


@contextmanager
def adapted(config: ModelConfig, stored: Checkpoint | Store, adapter: Adapter | None) -> Iterator[Stored]:
    """The stored model with the adapter's experts in place of its own; as it is without an adapter.

    Raises:
        AdapterError: the adapter is of another model.
    """
    if adapter is None:
        yield stored
        return
    adapter.check(config, stored)
    file = adapter.tensors
    try:
        if isinstance(stored, Checkpoint) and all(file[name].dtype == stored[name].dtype for name in file):
            # Of two files that hold a tensor, the last one counts.
            yield Checkpoint(stored.folder, [*stored.files, file], stored.block)
        else:
            yield Recoded(stored, Checkpoint(stored.folder, [file], stored.block))
    finally:
        file.close()
