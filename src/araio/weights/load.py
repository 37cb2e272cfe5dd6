"""Checkpoint or store to running model: every tensor read once, widened where memory allows, handed to `nn/`.

What is stored is checked against its config before a weight is read. Read `formats/checkpoint.py` and
`formats/store.py` for the files and `build.py` for the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from araio.config import ModelConfig
from araio.errors import CheckpointError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import expected_tensors
from araio.formats.manifest import MANIFEST_NAME
from araio.formats.store import Store
from araio.kernels.ops import Ops
from araio.kernels.select import select
from araio.nn.model import Model
from araio.weights.build import ModelBuilder, bytes_held

__all__ = ["load_model", "open_checked"]


def load_model(folder: Path, ops: Ops | None = None) -> Model:
    """Read a checkpoint folder into memory.

    Weights stay as stored, except that bfloat16 becomes float32 for operations that are faster so, if the
    whole model then takes at most half of the memory that is free, and fp8 does where they have no use for
    its blocks. Where the multi-token-prediction layer is
    absent as a whole, the model has none.

    folder  `config.json` and safetensors, as Hugging Face lays them out, or a store of `araio convert`
    ops     the operations to compute with; the best of this machine if None

    Raises:
        ConfigError, FormatError, CheckpointError: what is stored is malformed or damaged, does not fit
            together, or does not fit into memory.
        KernelError: `ARAIO_KERNELS` asks for a backend that cannot run here.
    """
    ops = select().ops if ops is None else ops
    with open_checked(folder) as (config, checkpoint):
        if not checkpoint.holds_mtp(config):
            # transformers saves V3 models without the module, yet leaves the config as it was.
            config = replace(config, num_nextn_predict_layers=0)
        widens = ops.wants_float32 and _fits_as_float32(config)
        _refuse_what_does_not_fit(checkpoint, config, ops, widens)
        return ModelBuilder(checkpoint, config, ops, widens).model()


@contextmanager
def open_checked(folder: Path) -> Iterator[tuple[ModelConfig, Checkpoint | Store]]:
    """A folder's config and its open checkpoint or store, which fit together; no weight is read yet.

    Raises ConfigError, FormatError or CheckpointError if they do not.
    """
    config = ModelConfig.from_file(folder)
    quantization = config.quantization_config
    block = quantization.weight_block_size if quantization else (128, 128)
    if (folder / MANIFEST_NAME).exists():
        with Store(folder, config, block) as store:
            yield config, store
        return
    with Checkpoint.open(folder, block) as checkpoint:
        checkpoint.check(config)
        yield config, checkpoint


def _fits_as_float32(config: ModelConfig) -> bool:
    numbers = sum(math.prod(shape) for shape in expected_tensors(config).values())
    return numbers * 4 <= psutil.virtual_memory().available / 2


def _refuse_what_does_not_fit(
    checkpoint: Checkpoint | Store, config: ModelConfig, ops: Ops, widens: bool
) -> None:
    """Otherwise the system would kill the process half way, without a word."""
    tensors = expected_tensors(config).items()
    needed = sum(bytes_held(checkpoint.codec(name), shape, ops, widens) for name, shape in tensors)
    available = psutil.virtual_memory().available
    if needed > available:
        raise CheckpointError(
            f"{checkpoint.folder}: its weights take {needed / 1e6:,.0f} MB of memory, but "
            f"{available / 1e6:,.0f} MB are free; close other programs, or use a machine with more memory or "
            "a smaller model"
        )
