"""`TrainedWeights`: the trainer's weights as the engine reads them, without a file between them.

On a CPU in float32 the engine computes from the very numbers that the optimizer moves: nothing is copied but
what its kernels lay out anew. So a model that is built here serves until the next step of the optimizer, and
what the engine keeps of prompts is worth nothing behind it. Read `weights/build.py` for what is made of it.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from araio.kernels.ops import Ops
from araio.nn.model import Model
from araio.tensors import Float32Array, Weight
from araio.train.checkpoint import checkpoint_tensors
from araio.train.model import SparseModel
from araio.weights.build import ModelBuilder

__all__ = ["TrainedWeights", "engine_model"]


class TrainedWeights:
    """A `WeightSource` over a model in training: names as checkpoints have them, numbers in float32."""

    def __init__(self, model: SparseModel) -> None:
        self._tensors: dict[str, Tensor] = dict(checkpoint_tensors(model))

    def read_weight(self, name: str) -> Weight:
        """The tensor `name`; shares the trainer's memory where that is float32 on the CPU."""
        values: Float32Array = self._tensors[name].detach().float().cpu().numpy()
        return np.ascontiguousarray(values)


def engine_model(model: SparseModel, ops: Ops) -> Model:
    """The model that is being trained, to run in an engine until the weights move."""
    return ModelBuilder(TrainedWeights(model), model.config, ops, widens=False).model()
