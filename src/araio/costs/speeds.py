"""`Speeds`: how fast a machine reads and computes, in the terms that a model's step is made of.

A published machine has one speed for each (`hardware.py`), a measured one a curve (`machine.py`);
`roofline.py` asks both the same questions. Speeds are operations or bytes per second; a multiply-add is two
operations.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from araio.costs.checks import require_positive, require_rate
from araio.errors import CostError

__all__ = ["Attention", "Curve", "Fixed", "Product", "Speeds"]


@dataclass(frozen=True)
class Curve:
    """A speed that depends on a size, at sizes that were measured.

    sizes, speeds  as many of each, sizes growing

    Raises CostError for other numbers.
    """

    sizes: tuple[float, ...]
    speeds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.sizes or len(self.sizes) != len(self.speeds) or sorted(set(self.sizes)) != [*self.sizes]:
            raise CostError(
                f"a curve has {len(self.sizes)} sizes and {len(self.speeds)} speeds; expected as many "
                "of each, sizes growing"
            )
        for number in (*self.sizes, *self.speeds):
            require_positive(curve=number)

    @classmethod
    def flat(cls, speed: float) -> Curve:
        """The same speed at every size."""
        return cls((1.0,), (speed,))

    def at(self, size: float) -> float:
        """The speed at a size. Between its neighbours time is a straight line; beyond them speed stays."""
        place = bisect_right(self.sizes, size)
        if place in (0, len(self.sizes)):
            return self.speeds[0 if place == 0 else -1]
        low, high = self.sizes[place - 1], self.sizes[place]
        share = (size - low) / (high - low)
        return size / ((1 - share) * low / self.speeds[place - 1] + share * high / self.speeds[place])


@dataclass(frozen=True)
class Fixed:
    """Seconds that a step takes whatever its sizes: calls, launches, bookkeeping.

    step         once
    dense_layer  for each layer without experts, `moe_layer` for each one with them
    sequence     more, for each sequence in each layer after the first sequence
    """

    step: float = 0.0
    dense_layer: float = 0.0
    moe_layer: float = 0.0
    sequence: float = 0.0

    def __post_init__(self) -> None:
        require_rate(**vars(self))


@dataclass(frozen=True)
class Product:
    """How fast matrices of one codec are multiplied with.

    cached      operations per second over the tokens that share a matrix, where reading it takes no time
    streamed    the same with a matrix that comes from memory, reading included; None where a product takes
                the slower of its reading and its operations
    absorbed    the same with `kv_b_proj` for a decoded token; None for `cached`
    input_s     seconds for each number of each token that goes in, whatever the matrix' other side: a short
    output_s    side makes a product slow; `output_s` for each that comes out
    """

    cached: Curve
    streamed: Curve | None = None
    absorbed: float | None = None
    input_s: float = 0.0
    output_s: float = 0.0

    def edge_s(self, rows: int, columns: int, tokens: float) -> float:
        """Seconds of what goes in and what comes out of one matrix (rows, columns)."""
        return tokens * (columns * self.input_s + rows * self.output_s)


@dataclass(frozen=True)
class Attention:
    """How fast attention is.

    decode          operations per second of a decoded token over the number of heads
    decode_score_s  seconds for each head and position besides
    prompt          operations per second of a prompt, the expansion of latents included
    prompt_score_s  seconds for each head and pair of positions besides
    """

    decode: Curve
    prompt: float
    decode_score_s: float = 0.0
    prompt_score_s: float = 0.0

    def __post_init__(self) -> None:
        require_positive(prompt=self.prompt)
        require_rate(decode_score_s=self.decode_score_s, prompt_score_s=self.prompt_score_s)


@dataclass(frozen=True)
class Speeds:
    """One machine, with the threads that it is planned with.

    bytes_per_s  of memory that is read from end to end
    products     by codec; empty where nobody knows how fast the machine computes
    attention    None where nobody knows
    cache_bytes  of a model's weights that stay in the processor's cache from step to step
    """

    bytes_per_s: float
    products: Mapping[str, Product] = field(default_factory=dict)
    attention: Attention | None = None
    fixed: Fixed = Fixed()
    cache_bytes: int = 0

    def __post_init__(self) -> None:
        require_positive(bytes_per_s=self.bytes_per_s)

    @property
    def knows_compute(self) -> bool:
        """Whether operations take time that is known; otherwise reading alone bounds what is predicted."""
        return bool(self.products) and self.attention is not None

    def read_s(self, read_bytes: float) -> float:
        """Seconds to read so many bytes of memory."""
        return read_bytes / self.bytes_per_s

    def product(self, codec: str) -> Product:
        """How fast matrices of a codec are multiplied with; raises CostError if only others are known."""
        if codec not in self.products:
            raise CostError(
                f"how fast this machine multiplies by {codec} is unknown; known: {', '.join(self.products)}"
            )
        return self.products[codec]
