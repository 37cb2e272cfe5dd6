"""The latent cache: growth, interruption and truncation."""

import numpy as np

from araio.nn.kv_cache import FIRST_CAPACITY, LatentCache

C, R = 3, 2


def latents(start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(start, start + count, dtype=np.float32)[:, None]
    return rows + np.zeros((1, C), np.float32), -rows + np.zeros((1, R), np.float32)


def filled(positions: int, step: int) -> tuple[LatentCache, np.ndarray]:
    cache = LatentCache(C + R)
    for start in range(0, positions, step):
        count = min(step, positions - start)
        view = cache.append(0, *latents(start, count))
        cache.advance(count)
    return cache, view


def test_it_holds_every_position_through_growth() -> None:
    for step in (1, 7, 5 * FIRST_CAPACITY):
        cache, view = filled(5 * FIRST_CAPACITY, step)
        assert cache.length == len(view) == 5 * FIRST_CAPACITY
        np.testing.assert_array_equal(view[:, 0], np.arange(len(view)))
        np.testing.assert_array_equal(view[:, -1], -view[:, 0])


def test_layers_are_kept_apart() -> None:
    cache = LatentCache(C + R)
    first = cache.append(4, *latents(0, 2))
    second = cache.append(9, *latents(10, 2))
    cache.advance(2)
    assert first[:, 0].tolist() == [0, 1]
    assert second[:, 0].tolist() == [10, 11]


def test_an_interrupted_step_leaves_it_as_it_was() -> None:
    cache, _ = filled(10, 10)
    cache.append(0, *latents(77, 5))
    assert cache.length == 10
    view = cache.append(0, *latents(10, 1))
    assert view[:, 0].tolist() == list(range(11))


def test_truncated_positions_are_written_again() -> None:
    cache, _ = filled(10, 10)
    cache.truncate(4)
    view = cache.append(0, *latents(50, 2))
    assert view[:, 0].tolist() == [0, 1, 2, 3, 50, 51]
