"""`Storage`: how each class of a model's weights is stored, so that bytes are counted as they really are.

By default a model is counted as its config publishes it; a store of `araio convert` names its own codecs.
What a codec makes of a shape is its own affair (`codecs/`). Read `parameters.py` for who asks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from araio.codecs import Codec, codec
from araio.config import ModelConfig

__all__ = ["Storage", "WeightClass"]

WeightClass: TypeAlias = Literal["experts", "dense", "eh_proj", "embeddings", "small", "bias"]
"""What decides a tensor's codec; `small` are routers and norms, `bias` the balancing bias, always float32."""

# How `torch_dtype` of a config names what its unquantised weights are stored as; bfloat16 if it does not say.
# float16 has no codec of its own; bfloat16 has its size.
_CODEC_OF_DTYPE = {"float32": "f32", "float16": "bf16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Storage:
    """The codec of each class of weights, by name.

    experts     routed experts
    dense       every other matrix: attention, dense layers, shared experts
    embeddings  the embedding and the output matrix
    small       routers and norms; float32 in every store, as published elsewhere

    Raises FormatError for a codec that does not exist.
    """

    experts: str
    dense: str
    embeddings: str
    small: str = "f32"

    def __post_init__(self) -> None:
        for part in fields(self):
            codec(getattr(self, part.name))

    @classmethod
    def published(cls, config: ModelConfig) -> Storage:
        """What the config says of its own checkpoint: FP8 projections, and the rest in `torch_dtype`."""
        stated = config.source.get("torch_dtype") or config.source.get("dtype")
        plain = _CODEC_OF_DTYPE.get(stated if isinstance(stated, str) else "", "bf16")
        matrices = plain if config.quantization_config is None else "fp8"
        return cls(experts=matrices, dense=matrices, embeddings=plain, small=plain)

    def codec(self, weights: WeightClass, config: ModelConfig) -> Codec[Any]:
        """The codec of a class of the config's weights."""
        if weights == "bias":
            return codec("f32")
        if weights == "eh_proj":
            # The MTP module's projection is a dense matrix that no published checkpoint has in FP8.
            return codec("bf16" if self.dense == "fp8" else self.dense)
        quantization = config.quantization_config
        block = (128, 128) if quantization is None else quantization.weight_block_size
        return codec(getattr(self, weights), block)
