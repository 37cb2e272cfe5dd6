"""`ReceiptKeeper`: the receipts of answers that were shown go to the log, or are let go.

A log that cannot be written costs no answer: the first failure is noted, and then no more is tried. Read
`costs/receipt_log.py` for the log.
"""

from __future__ import annotations

from collections.abc import Callable

from araio import env
from araio.engine.answer import Answer
from araio.errors import LogError
from araio.json_reader import shown

__all__ = ["ReceiptKeeper"]


class ReceiptKeeper:
    """Keeps receipts unless told not to.

    note    says something to the user
    is_off  keep none, whatever `ARAIO_RECEIPTS` says

    Raises LogError if `ARAIO_RECEIPTS` is neither on nor off.
    """

    def __init__(self, note: Callable[[str], None], *, is_off: bool) -> None:
        wanted = env.get("ARAIO_RECEIPTS")
        if wanted not in ("on", "off"):
            raise LogError(f"ARAIO_RECEIPTS is {shown(wanted)}; expected on or off")
        self._note = note
        self._is_on = wanted == "on" and not is_off

    def keep(self, answer: Answer) -> None:
        """Log the receipt of an answer that was shown, for the log may have to wait for another process."""
        if not self._is_on:
            return
        try:
            # SQLite is loaded behind the answer, and some Pythons are built without it.
            from araio.costs.receipt_log import ReceiptLog

            ReceiptLog().add(answer.receipt, profile=answer.receipt.mask)
        except (LogError, ImportError) as error:
            self._is_on = False
            self._note(f"note: {error}")
