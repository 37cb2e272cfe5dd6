"""Whatever a library does, its caller gets an error of ours; Ctrl-C stays what it is."""

import pytest

from araio.errors import TextError
from araio.text.native_errors import native_errors


class PanicException(BaseException):
    """As Rust's panics come, which no test can cause in a library that has no known defect."""


@pytest.mark.parametrize("error", [ValueError("why"), RuntimeError("why"), PanicException("why")])
def test_what_a_library_raises_is_an_error_of_ours(error: BaseException) -> None:
    with pytest.raises(TextError, match="it failed: why; do this"), native_errors("it failed", "do this"):
        raise error


def test_ctrl_c_is_left_alone() -> None:
    with pytest.raises(KeyboardInterrupt), native_errors("it failed", "do this"):
        raise KeyboardInterrupt
