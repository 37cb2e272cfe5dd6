import pytest

from araio.cli.numbers import bytes_text, count_text, memory_text, share_text, speed_text


@pytest.mark.parametrize(
    ("number", "count", "size"),
    [
        (0, "0", "0 bytes"),
        (999, "999", "999 bytes"),
        (7_840_000, "7.8M", "7.8 MB"),
        (671_026_419_200, "671.0B", "671.0 GB"),
        (1_026_408_232_448, "1026.4B", "1,026.4 GB"),
    ],
)
def test_counts_and_bytes(number, count, size):
    assert (count_text(number), bytes_text(number)) == (count, size)


def test_shares():
    assert share_text(36_625_618_432, 671_026_419_200) == "5.5%"


def test_memory_and_speeds():
    assert [memory_text(size) for size in (384 << 20, 4 << 30)] == ["384 MiB", "4.0 GiB"]
    assert [speed_text(speed) for speed in (2143.4, 14.94, 0.834)] == ["2,143", "14.9", "0.83"]
