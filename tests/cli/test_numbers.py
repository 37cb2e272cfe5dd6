import pytest

from araio.cli.numbers import bytes_text, count_text, share_text


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
