"""`native_errors`: what goes wrong inside a library written in Rust, as an error of ours.

Such libraries raise bare exceptions for the defects they find; one that they do not find makes them panic,
and a panic passes by `except Exception` and would end the thread that runs everybody's requests. Read
`tokenizer.py` and `grammar.py` for the two that are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from araio.errors import TextError

__all__ = ["native_errors"]


@contextmanager
def native_errors(complaint: str, advice: str) -> Iterator[None]:
    """Turn whatever a library raises inside into a TextError: complaint, the library's reason, advice."""
    try:
        yield
    except Exception as error:
        raise TextError(f"{complaint}: {error}; {advice}") from error
    except BaseException as error:
        # The class of panics is no Exception and cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise TextError(f"{complaint}: {error}; {advice}") from error
