"""`ctrl_c`: a press of Ctrl-C that nothing loses, and that strikes only where somebody catches it.

Python raises KeyboardInterrupt wherever the program happens to be. Code that is not ours may swallow it there
(compiled modules do while they are imported, destructors always), or it hits the one line between two `try`.
So a press is noted as well: `watched` asks for it between the pieces of an answer, and while `held` it raises
only inside `heard`. Read `main.py` for where it begins, `prompt_loop.py` for `held` and `heard`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

__all__ = ["CtrlC", "ctrl_c"]

ItemT = TypeVar("ItemT")


class CtrlC:
    """The handler of SIGINT and what it has noted. Without `install` Ctrl-C stays what Python makes of it."""

    def __init__(self) -> None:
        self._is_pressed = False
        self._is_held = False

    def install(self) -> None:
        """Note presses from now on, unless the program was started deaf to them, as in the background."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._raise)

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was a press that nobody has dealt with."""
        if self._is_pressed:
            raise KeyboardInterrupt

    def forget(self) -> None:
        """The press is dealt with."""
        self._is_pressed = False

    def watched(self, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """The same items; a press whose KeyboardInterrupt got lost ends them all the same."""
        for item in items:
            self.check()
            yield item

    @contextmanager
    def held(self) -> Iterator[None]:
        """Only note presses, except inside `heard`."""
        if signal.getsignal(signal.SIGINT) != self._raise:
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            signal.signal(signal.SIGINT, self._raise)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Raise for one press, or one before; others are noted, so that nothing disturbs what cleans up."""
        if not self._is_held:
            yield
            return
        try:
            signal.signal(signal.SIGINT, self._raise_once)
            self.check()
            yield
        finally:
            signal.signal(signal.SIGINT, self._note)

    # ------------------------------------------------------------------ handlers

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._is_pressed = True

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._is_pressed = True
        raise KeyboardInterrupt

    def _raise_once(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, self._note)
        self._raise(number, frame)


ctrl_c = CtrlC()
"""The process's own: signals belong to a process, and so does what is known of them."""
