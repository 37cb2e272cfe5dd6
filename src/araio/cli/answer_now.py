r"""`answer_now`: Ctrl-\ ends the thinking of the answer that is being made, and only that.

Ctrl-C is for those who want no answer. The signal of Ctrl-\, SIGQUIT, would end the program with a core dump;
who thinks long enough of an answer to want it is better served.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["answer_now"]


@contextmanager
def answer_now(events: object) -> Iterator[None]:
    r"""Within the block Ctrl-\ calls `answer_now` of `events`, if it has that; else nothing is changed."""
    end = getattr(events, "answer_now", None)
    number = getattr(signal, "SIGQUIT", None)
    if end is None or number is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        end()

    before = signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, before)
