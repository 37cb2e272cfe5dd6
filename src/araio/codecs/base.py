"""`Codec`: one way to store a matrix, and the arrays that it consists of.

Everything about a stored format is in its one class: names, types and shapes of its arrays, the way from
float32 and the way back. A matrix that a codec cannot hold ends in a FormatError. Read the codecs beside this
file, then `__init__.py` for the table of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from araio.errors import FormatError
from araio.tensors import Float32Array, Weight

__all__ = ["Codec", "Part", "largest_magnitude"]

WeightT = TypeVar("WeightT", bound=Weight)


@dataclass(frozen=True)
class Part:
    """One array of a stored weight.

    suffix     follows the weight's name; empty for the only part, or the main one
    stored_as  type in a safetensors header
    dtype      what it is read as
    """

    suffix: str
    stored_as: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Codec(ABC, Generic[WeightT]):
    """How matrices (O, I) are stored.

    name          as `araio convert` spells it
    row_multiple  rows that are stored together: encoded apart, so many at a time, they come out the same
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def row_multiple(self) -> int: ...

    @abstractmethod
    def parts(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """What is stored of a tensor of this shape; the first dimension of each part counts rows."""

    @abstractmethod
    def holds(self, weight: Weight) -> bool:
        """Whether a weight is stored this way already."""

    @abstractmethod
    def encode(self, matrix: Float32Array) -> WeightT:
        """Store a float32 matrix (O, I).

        Raises FormatError for NaN, infinities, and numbers too large for the codec.
        """

    @abstractmethod
    def decode(self, weight: WeightT) -> Float32Array:
        """What a stored weight is worth (O, I)."""

    @abstractmethod
    def arrays(self, weight: WeightT) -> tuple[npt.NDArray[Any], ...]:
        """The weight's arrays in the order of `parts`."""

    @abstractmethod
    def assemble(self, arrays: Sequence[npt.NDArray[Any]], shape: tuple[int, ...]) -> WeightT:
        """A weight over arrays that match `parts`; nothing is copied."""

    @abstractmethod
    def is_finite(self, weight: WeightT) -> bool:
        """Whether every number is finite, and every scale one that this codec writes."""

    def bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes that a tensor of this shape takes."""
        return sum(part.bytes for part in self.parts(shape))


def largest_magnitude(matrix: Float32Array) -> float:
    """The largest magnitude of a matrix; raises FormatError for NaN and infinities."""
    # By extremes alone: they are quick, need no array of their own, and hand NaN through.
    largest = float(max(matrix.max(initial=0), -matrix.min(initial=0)))
    if not math.isfinite(largest):
        raise FormatError("holds NaN or infinity; the weights are damaged")
    return largest
