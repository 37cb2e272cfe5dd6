"""`progress_bar`: how far a long command is, as a bar on a terminal and as a few lines on stderr elsewhere.

A log or a pipe gets a line when the work begins, and then one for each tenth of it, none sooner than ten
seconds after the one before and none later than a minute. stdout is left to what the command prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from araio.cli.numbers import bytes_text
from araio.cli.printable import printable

__all__ = ["LineProgress", "note", "progress_bar"]

SOONEST_S, LATEST_S = 10.0, 60.0
SHARE = 0.1


def progress_bar(*, in_bytes: bool = False) -> Progress:
    """A context whose first task is the whole of the work, and any others are parts of it.

    in_bytes  amounts are bytes, not things that are counted
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        return LineProgress(console, bytes_text if in_bytes else "{:,}".format)
    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = TextColumn("{task.description}", markup=False), BarColumn(), amount, TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True)


def note(console: Console, text: str) -> None:
    """One line, as it is: a folder's name is no markup, and a pipe has no width."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


class LineProgress(Progress):
    """Draws nothing, and tells of its first task in lines.

    amount  what is done, or is to be done, as text
    clock   seconds
    """

    def __init__(
        self, console: Console, amount: Callable[[int], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console=console, disable=True, get_time=clock)
        self._amount = amount
        self._clock = clock
        self._told_s: float | None = None
        self._told_done = 0.0

    def add_task(self, description: str, *options: Any, **more: Any) -> TaskID:
        """Add a task; the first one is told at once if it is known how long it is."""
        added = super().add_task(description, *options, **more)
        self._tell_if_due()
        return added

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task; a line if one is due."""
        super().update(task_id, **changes)
        self._tell_if_due()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Move a task on; a line if one is due."""
        super().advance(task_id, advance)
        self._tell_if_due()

    def _tell_if_due(self) -> None:
        whole = self.tasks[0]
        if not whole.total:
            return
        now_s = self._clock()
        if self._told_s is not None:
            waited_s, made = now_s - self._told_s, whole.completed - self._told_done
            if waited_s < SOONEST_S or (waited_s < LATEST_S and made < SHARE * whole.total):
                return
        self._told_s, self._told_done = now_s, whole.completed
        share = whole.completed / whole.total
        done, total = self._amount(round(whole.completed)), self._amount(round(whole.total))
        note(
            self.console,
            f"{whole.description}: {done} of {total}, {share:.0%} after {whole.elapsed or 0:,.0f} s",
        )
