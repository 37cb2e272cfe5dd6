"""What a guess is worth: measured, by rank and kind, against what a read takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.weights.foresight import HALF_LIFE, PRIOR, Foresight

ONE, KINDS = "one", ("one", "several")


def taught(precision: float, window_s: float, read_s: float, ranks: int = 4) -> Foresight:
    """Foresight that has seen so many guesses of one kind that it knows."""
    foresight = Foresight()
    right = 0
    for number in range(1, 12 * HALF_LIFE):
        is_right = right < precision * number
        right += is_right
        foresight.judge(ONE, range(ranks), set(range(ranks)) if is_right else set(), window_s)
        foresight.note_read(read_s)
    return foresight


def width(foresight: Foresight, most: int = 16) -> int:
    """Reads that are worth it before the first that is not."""
    return next((rank for rank in range(most) if not foresight.is_worth(ONE, rank, rank)), most)


def test_nothing_is_read_before_anything_is_known() -> None:
    foresight = Foresight()
    assert foresight.window_s(ONE) == 0
    assert not foresight.is_worth(ONE, 0, 0)
    assert foresight.precision(ONE, 0) == PRIOR


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_precision_is_the_share_of_guesses_that_were_right(share: float) -> None:
    foresight = taught(share, 1.0, 1.0)
    for rank in range(4):
        assert foresight.precision(ONE, rank) == pytest.approx(share, abs=0.02)
    assert foresight.precision("several", 0) == PRIOR  # kinds are told apart


def test_ranks_are_told_apart() -> None:
    foresight = Foresight()
    for _ in range(12 * HALF_LIFE):
        foresight.judge(ONE, [7, 3], {7}, 1.0)
    assert foresight.precision(ONE, 0) > 0.99
    assert foresight.precision(ONE, 1) < 0.01


def test_what_is_long_ago_is_forgotten() -> None:
    foresight = taught(1.0, 1.0, 1.0, ranks=1)
    for _ in range(HALF_LIFE):
        foresight.judge(ONE, [0], set(), 1.0)
    assert foresight.precision(ONE, 0) == pytest.approx(0.5, abs=0.02)


def test_the_width_grows_with_the_window() -> None:
    widths = [width(taught(0.8, window, read_s=1.0, ranks=16)) for window in (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)]
    assert widths == sorted(widths)
    assert widths[0] == 0  # a tenth of a read is saved, if it is right
    assert widths[-1] == 8
    assert len(set(widths)) >= 4


@given(
    precision=st.floats(0, 1),
    window_s=st.floats(1e-5, 10),
    read_s=st.floats(1e-5, 10),
    before=st.integers(0, 16),
)
def test_only_what_saves_more_than_it_may_cost_is_read(precision, window_s, read_s, before) -> None:
    foresight = Foresight()
    foresight.judge(ONE, [], set(), window_s)
    foresight.note_read(read_s)
    known = foresight.precision
    foresight.precision = lambda kind, rank: precision  # type: ignore[method-assign]
    is_worth = foresight.is_worth(ONE, 0, before)
    assert known(ONE, 0) == PRIOR
    left_s = window_s - before * read_s
    if left_s <= 0:
        assert not is_worth
    elif left_s >= read_s:  # a wrong one is over before anybody waits
        assert is_worth == (precision > 0)
    if is_worth:  # fewer reads before it, or a better guess, make it no worse
        assert foresight.is_worth(ONE, 0, max(0, before - 1))
        foresight.precision = lambda kind, rank: 1.0  # type: ignore[method-assign]
        assert foresight.is_worth(ONE, 0, before)


def test_a_slow_disk_reads_only_what_is_nearly_sure() -> None:
    """A window of a tenth of a read: from a precision of nine in ten on."""
    assert not taught(0.85, 0.1, 1.0).is_worth(ONE, 0, 0)
    assert taught(0.95, 0.1, 1.0).is_worth(ONE, 0, 0)
    assert not taught(0.95, 0.1, 1.0).is_worth(ONE, 0, 1)


def test_a_stall_of_the_system_counts_for_no_more_than_it_has_to() -> None:
    foresight = taught(0.8, 1.0, 1.0)
    foresight.judge(ONE, [0], {0}, 1000.0)
    foresight.note_read(1000.0)
    assert foresight.window_s(ONE) < 1.3
    assert foresight.read_s < 1.3
