"""`PrefixCache`: full pages of prompts, kept after their request has ended for those that begin alike.

A page is found by the chain of all ids up to its end, compared exactly. Only prompt tokens are kept: those of
an answer were computed in the absorbed form of attention, and would differ in the last bits from the same
tokens in a prompt. Pages of a request that drafted hold the MTP module's latents too; those of others do not,
and a request that drafts leaves them alone. Under another mask the same ids leave other numbers in a page, so
requests of different masks share nothing. Read `engine.py` next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from araio.kernels.ops import PAGE, Int64Array
from araio.nn.kv_cache import LatentPool

__all__ = ["PrefixCache"]

Key: TypeAlias = tuple[int | str, bytes]
"""Serial number of the page before, or the id of the mask if there is none, and the ids of this one."""


@dataclass(frozen=True)
class _Kept:
    page: int
    serial: int  # of this page in its chain; never used again, unlike the page's number
    is_drafted: bool  # the MTP module's latents are there


class PrefixCache:
    """Owns one share of every page it keeps, and gives up those that nobody else holds, oldest first."""

    def __init__(self, pool: LatentPool) -> None:
        self._pool = pool
        # Least recently used first. Whoever touches a page touches those before it afterwards, so a page
        # is always older than the ones it builds on, and is given up before them.
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._serials = 0
        self.queries = 0
        """Tokens of prompts that were looked for."""
        self.hits = 0
        """Of those, that were found."""

    @property
    def idle(self) -> int:
        """Pages that only this cache holds."""
        return sum(self._pool.owners(kept.page) == 1 for kept in self._kept.values())

    def match(self, prompt: Int64Array, mask_id: str, is_drafting: bool) -> list[int]:
        """The kept pages that a prompt begins with, without its last token, which must be run.

        mask_id      of the request, empty for none
        is_drafting  take only pages that have the MTP module's latents
        """
        keys, pages = [], []
        serial: int | str = mask_id
        for key_ids in _full_pages(prompt[:-1]):
            kept = self._kept.get((serial, key_ids))
            if kept is None or (is_drafting and not kept.is_drafted):
                break
            keys.append((serial, key_ids))
            pages.append(kept.page)
            serial = kept.serial
        self._touch(keys)
        self.queries += len(prompt)
        self.hits += PAGE * len(pages)
        return pages

    def keep(self, prompt: Int64Array, mask_id: str, pages: Sequence[int], is_drafted: bool) -> None:
        """Keep the full pages of a prompt that has run.

        Where one with the same content is kept already it stays, unless only the new one has the MTP module's
        latents: then it takes its place, and chains that build on it go on.
        """
        keys = []
        serial: int | str = mask_id
        for key_ids, page in zip(_full_pages(prompt), pages, strict=False):
            key = serial, key_ids
            kept = self._kept.get(key)
            if kept is None:
                self._serials += 1
                kept = self._kept[key] = _Kept(page, self._serials, is_drafted)
                self._pool.share(page)
            elif is_drafted and not kept.is_drafted:
                self._pool.release(kept.page)
                kept = self._kept[key] = _Kept(page, kept.serial, is_drafted)
                self._pool.share(page)
            keys.append(key)
            serial = kept.serial
        self._touch(keys)

    def give_up(self, pages: int) -> None:
        """Free pages until the pool has so many, or none is left that only this cache holds."""
        if self._pool.free >= pages:
            return
        for key, kept in list(self._kept.items()):
            if self._pool.owners(kept.page) == 1:
                del self._kept[key]
                self._pool.release(kept.page)
                if self._pool.free >= pages:
                    return

    def _touch(self, keys: Sequence[Key]) -> None:
        for key in reversed(keys):
            self._kept.move_to_end(key)


def _full_pages(ids: Int64Array) -> list[bytes]:
    """The ids of every full page."""
    return [np.ascontiguousarray(ids[at : at + PAGE]).tobytes() for at in range(0, len(ids) - PAGE + 1, PAGE)]
