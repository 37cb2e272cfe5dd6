"""Memory for weights: apart from each other, aligned, writable."""

import numpy as np
import pytest

from araio.memory import CACHE_LINE, CHUNK, HUGE_PAGE, weight_memory


def test_pieces_are_aligned_and_do_not_overlap() -> None:
    pieces = [weight_memory(size) for size in (1, 64, 65, 0, 1000, 7)]
    for number, piece in enumerate(pieces):
        assert piece.ctypes.data % CACHE_LINE == 0
        piece[:] = number
    assert [len(piece) for piece in pieces] == [1, 64, 65, 0, 1000, 7]
    for number, piece in enumerate(pieces):
        assert (piece == number).all()


def test_chunks_follow_each_other_when_they_are_full() -> None:
    size = CHUNK // 8 + 1
    pieces = [weight_memory(size) for _ in range(20)]
    for number, piece in enumerate(pieces):
        piece[:] = number
    assert all((piece == number).all() for number, piece in enumerate(pieces))


@pytest.mark.parametrize("size", [CHUNK // 4 + 1, CHUNK + 3])
def test_a_large_piece_begins_with_a_huge_page_of_its_own(size: int) -> None:
    piece = weight_memory(size)
    assert len(piece) == size
    assert piece.ctypes.data % HUGE_PAGE == 0


def test_nothing_else_is_needed_to_keep_a_piece_alive() -> None:
    kept = weight_memory(100).view(np.float32)
    kept[:] = 1.5
    for _ in range(3):
        weight_memory(CHUNK)[:] = 7
    assert (kept == 1.5).all()
