"""The latent cache: what attention remembers of each position, compressed.

`kv_lora_rank + qk_rope_head_dim` numbers per token and layer (DeepSeek-V2 report, section 2.1.2), whatever
the number of heads. `LatentPool` holds pages for many sequences, as many as its bound allows and no more;
`LatentCache` is one sequence, a table of pages. Sequences that begin alike may share full pages. Read
`batch.py` next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from araio.errors import CacheFullError
from araio.kernels.ops import PAGE, Int64Array, IntArray, LatentPages

__all__ = ["CacheType", "LatentCache", "LatentPool", "pages_for"]

CacheType: TypeAlias = Literal["bfloat16", "float32"]
"""What numbers the cache keeps: bfloat16 as its bits, or float32, twice as large, for comparisons."""


def pages_for(tokens: int) -> int:
    """Pages that hold so many tokens of one sequence."""
    return -(-tokens // PAGE)


class LatentPool:
    """Pages of latents. A page is `PAGE` positions in every layer: its number is the same in all of them.

    The system backs a layer's array with memory where it is first written, so a large bound costs nothing
    until it is used; pages that were given back are used again first.

    tokens  the bound, rounded up to whole pages
    """

    def __init__(self, latent_dim: int, tokens: int, cache_type: CacheType = "bfloat16") -> None:
        self.size = pages_for(tokens)
        self._shape = self.size, PAGE, latent_dim
        self._cache_type = cache_type
        self._layers: dict[int, LatentPages] = {}
        self._owners = [0] * self.size
        self._free = list(range(self.size - 1, -1, -1))

    @property
    def position_bytes(self) -> int:
        """Bytes of one position in one layer."""
        return self._shape[2] * (2 if self._cache_type == "bfloat16" else 4)

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def layer(self, index: int) -> LatentPages:
        """All pages of one layer (P, PAGE, C + R)."""
        if index not in self._layers:
            if self._cache_type == "bfloat16":
                self._layers[index] = np.zeros(self._shape, np.uint16)
            else:
                self._layers[index] = np.zeros(self._shape, np.float32)
        return self._layers[index]

    def take(self) -> int:
        """A page for one owner.

        Raises:
            CacheFullError: every page has an owner.
        """
        if not self._free:
            raise CacheFullError(
                f"the cache holds {self.size * PAGE} tokens and all of it is in use; give it more tokens, or "
                "wait until other sequences have ended"
            )
        page = self._free.pop()
        self._owners[page] = 1
        return page

    def share(self, page: int) -> None:
        """One owner more."""
        assert self._owners[page] > 0
        self._owners[page] += 1

    def release(self, page: int) -> None:
        """One owner less; without any the page is free."""
        assert self._owners[page] > 0
        self._owners[page] -= 1
        if self._owners[page] == 0:
            self._free.append(page)

    def owners(self, page: int) -> int:
        """How many hold the page."""
        return self._owners[page]


class LatentCache:
    """One sequence: its pages in order, and how many positions of them are filled, `length`.

    A step reserves room, writes, and then advances, so that a step that is interrupted leaves the sequence
    as it was.

    shared  full pages of another sequence that begins with the same tokens; they are read, never written
    """

    def __init__(self, pool: LatentPool, shared: Sequence[int] = ()) -> None:
        self.pool = pool
        self.length = len(shared) * PAGE
        self.pages = list(shared)
        self._table = np.zeros(pool.size, np.int64)
        self._table[: len(shared)] = shared
        for page in shared:
            pool.share(page)

    @property
    def table(self) -> Int64Array:
        """The numbers of its pages in order; what stands behind them means nothing."""
        return self._table

    def reserve(self, tokens: int) -> None:
        """Room for so many tokens behind `length`.

        Raises:
            CacheFullError: the pool has no page left; those taken before stay with the sequence.
        """
        for place in range(len(self.pages), pages_for(self.length + tokens)):
            page = self.pool.take()
            self._table[place] = page
            self.pages.append(page)

    def slots(self, positions: IntArray) -> Int64Array:
        """Where reserved positions lie, counted from the first page of the pool on."""
        slots: Int64Array = self._table[positions // PAGE] * PAGE + positions % PAGE
        return slots

    def advance(self, tokens: int) -> None:
        """Keep what a step wrote, once every layer has."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on, and give back the pages that become empty."""
        assert 0 <= length <= self.length
        self.length = length
        while len(self.pages) > pages_for(length):
            self.pool.release(self.pages.pop())

    def beside(self) -> LatentCache:
        """A sequence of no positions yet on the same pages, for a layer of its own that lags behind.

        It owns nothing: this sequence reserves, truncates and releases for both.
        """
        other = LatentCache.__new__(LatentCache)
        other.pool, other.length, other.pages, other._table = self.pool, 0, self.pages, self._table
        return other
