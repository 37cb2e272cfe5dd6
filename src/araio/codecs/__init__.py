"""Codecs: the ways to store a matrix, by name, and what each stored number is worth.

A codec is one class: add it to `codec` and every reader, writer and converter has it. An unknown name is
refused, with the names that exist. Read `base.py` for what a codec can do and `tensors.py` for the layouts.
"""

from __future__ import annotations

from typing import Any

from araio.codecs.base import Codec, Part
from araio.codecs.fp8 import FP8
from araio.codecs.integers import Q4, Q8
from araio.codecs.plain import BF16, F32
from araio.errors import FormatError
from araio.json_reader import shown
from araio.tensors import BFloat16, BlockFP8, Float32Array, Quantized, Weight

__all__ = ["CODECS", "Codec", "Part", "codec", "codec_of", "decode"]

CODECS: dict[str, Codec[Any]] = {codec.name: codec for codec in (F32(), BF16(), FP8(), Q8(), Q4())}


def codec(name: str, fp8_block: tuple[int, int] = (128, 128)) -> Codec[Any]:
    """The codec of a name; FP8 takes its block of rows and columns from the model's config.

    Raises FormatError for a name that no codec has.
    """
    if name not in CODECS:
        raise FormatError(f"codec {shown(name)} is unknown; expected one of {', '.join(CODECS)}")
    return FP8(fp8_block) if name == FP8.name else CODECS[name]


def codec_of(weight: Weight) -> Codec[Any]:
    """The codec that a weight is stored with."""
    if isinstance(weight, Quantized):
        return CODECS["q8" if weight.bits == 8 else "q4"]
    if isinstance(weight, BlockFP8):
        return FP8(weight.block)
    return CODECS["bf16" if isinstance(weight, BFloat16) else "f32"]


def decode(weight: Weight) -> Float32Array:
    """What a stored weight is worth, as a new float32 array; float32 is passed through as it is."""
    values: Float32Array = codec_of(weight).decode(weight)
    return values
