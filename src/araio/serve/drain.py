"""`Drain`: whether a server is about to end, and how many requests it still has to finish before.

One object is shared by the guard, which counts and refuses, and the HTTP server, which waits. All of it
happens on the event loop, `begin` apart, which a signal may call. Read `guard.py` and `http.py` for the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

__all__ = ["Drain"]


class Drain:
    """The state of one server.

    seconds  that running requests get
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.running = 0
        self._began_s: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether new requests are refused."""
        return self._began_s is not None

    @property
    def is_over(self) -> bool:
        """Whether the server may end: nothing runs any more, or what runs has had its time."""
        return self._began_s is not None and (
            self.running == 0 or monotonic() - self._began_s >= self.seconds
        )

    def begin(self) -> None:
        """Refuse new requests from now on."""
        if self._began_s is None:
            self._began_s = monotonic()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A request runs."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
