"""What a run begins with if not with random weights: those of a checkpoint, and its tokenizer.

Every tensor of the published format becomes float32, the type that training moves. Quantised checkpoints are
refused by the recipe. Read `checkpoint.py` for the way back.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from araio.errors import TrainingError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import expected_tensors
from araio.kernels.widen import widen
from araio.train.checkpoint import load_tensors
from araio.train.model import SparseModel

__all__ = ["copy_tokenizer", "load_weights"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def load_weights(model: SparseModel, folder: Path) -> None:
    """Fill a model with a checkpoint of the same config.

    Raises:
        FormatError: the checkpoint is damaged, or is not what its config says.
    """
    with Checkpoint.open(folder) as checkpoint:
        load_tensors(
            model,
            {
                name: torch.from_numpy(widen(checkpoint.read_weight(name)))
                for name in expected_tensors(model.config)
            },
        )


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the files that turn text into tokens, and say how to draw them.

    Raises:
        TrainingError: one cannot be read or written.
    """
    for name in TOKENIZER_FILES:
        try:
            shutil.copyfile(source / name, target / name)
        except OSError as error:
            raise TrainingError(
                f"{error.filename or source / name}: cannot be copied to {target} ({error.strerror})"
            ) from None
