"""The latent cache: pages taken, shared, given back, and refused when there are none left."""

import numpy as np
import pytest

from araio.errors import CacheFullError
from araio.kernels.ops import PAGE
from araio.nn.kv_cache import LatentCache, LatentPool, pages_for

C_AND_R = 5


def pool(pages: int, cache_type: str = "float32") -> LatentPool:
    return LatentPool(C_AND_R, pages * PAGE, cache_type)


def filled(pool: LatentPool, tokens: int, step: int) -> LatentCache:
    """Position p of layer 0 holds p in its last number."""
    cache = LatentCache(pool)
    positions = pool.layer(0).reshape(-1, C_AND_R)
    for start in range(0, tokens, step):
        count = min(step, tokens - start)
        cache.reserve(count)
        at = np.arange(start, start + count)
        positions[cache.slots(at), -1] = at
        cache.advance(count)
    return cache


def read(cache: LatentCache) -> list[float]:
    pages = cache.pool.layer(0)[cache.table[: pages_for(cache.length)]]
    return pages.reshape(-1, C_AND_R)[: cache.length, -1].tolist()


@pytest.mark.parametrize("step", [1, 7, PAGE, 3 * PAGE + 1])
def test_every_position_is_where_it_was_written(step: int) -> None:
    room = pool(9)
    first, second = filled(room, 3 * PAGE + 1, step), filled(room, 2 * PAGE, step)
    assert read(first) == list(range(3 * PAGE + 1))
    assert read(second) == list(range(2 * PAGE))
    assert room.free == 9 - 4 - 2


def test_a_bound_is_rounded_up_to_pages_and_then_kept() -> None:
    room = LatentPool(C_AND_R, PAGE + 1)
    cache = LatentCache(room)
    cache.reserve(2 * PAGE)
    cache.advance(2 * PAGE)
    with pytest.raises(CacheFullError, match=f"holds {2 * PAGE} tokens.*more"):
        cache.reserve(1)
    assert cache.length == 2 * PAGE


def test_numbers_are_two_bytes_unless_four_are_asked_for() -> None:
    assert LatentPool(C_AND_R, PAGE).layer(3).nbytes == PAGE * C_AND_R * 2
    assert LatentPool(C_AND_R, PAGE, "float32").layer(3).nbytes == PAGE * C_AND_R * 4


def test_layers_are_kept_apart_and_share_their_page_numbers() -> None:
    room = pool(1)
    cache = filled(room, 3, 3)
    room.layer(1)[:] = -1
    assert read(cache) == [0, 1, 2]
    assert (room.layer(1) == -1).all()


def test_an_interrupted_step_leaves_it_as_it_was() -> None:
    room = pool(2)
    cache = filled(room, PAGE, 9)
    cache.reserve(5)
    assert cache.length == PAGE
    cache.reserve(5)
    assert room.free == 0


def test_truncated_positions_are_forgotten_and_their_pages_given_back() -> None:
    room = pool(3)
    cache = filled(room, 2 * PAGE + 1, 50)
    cache.truncate(PAGE + 4)
    assert (read(cache), room.free) == (list(range(PAGE + 4)), 1)
    cache.truncate(0)
    assert room.free == 3


def test_shared_pages_live_as_long_as_their_last_owner() -> None:
    room = pool(4)
    first = filled(room, 2 * PAGE + 3, 50)
    second = LatentCache(room, first.pages[:2])
    assert second.length == 2 * PAGE
    second.reserve(1)
    assert room.free == 0
    first.truncate(0)
    assert (room.free, read(second)) == (1, list(range(2 * PAGE)))
    second.truncate(0)
    assert room.free == 4


def test_a_layer_that_lags_behind_reads_the_same_pages_and_owns_none() -> None:
    cache = filled(pool(4), PAGE + 5, 50)
    lagging = cache.beside()
    assert lagging.length == 0
    lagging.advance(PAGE)
    assert read(lagging) == list(range(PAGE))
    cache.reserve(2 * PAGE)
    np.testing.assert_array_equal(lagging.slots(np.arange(3 * PAGE)), cache.slots(np.arange(3 * PAGE)))
