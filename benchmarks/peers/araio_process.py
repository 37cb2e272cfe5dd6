"""`AraioProcess`: araio in a process of its own, driven as `LlamaCpp` is, so that both are watched alike."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from peers.json_process import JsonProcess, Played

__all__ = ["AraioProcess"]


class AraioProcess:
    """A store in a process, until `close` or the end of a `with` block.

    ram     bytes that the process may take, its experts streamed from disk; None has all weights in memory
    pid     of the process
    budget  how `ram` is divided, in bytes; `slots` are the experts that have room, None if all have

    Raises PeerError when araio refuses or ends.
    """

    def __init__(self, store: Path, threads: int, ram: int | None = None) -> None:
        worker = [sys.executable, "-P", str(Path(__file__).with_name("araio_worker.py"))]
        self._process = JsonProcess("araio", worker, {"PYTHONPATH": ":".join(sys.path)})
        self.pid = self._process.pid
        try:
            self.budget: dict[str, int | None] = self._process.ask(store=str(store), ram=ram, threads=threads)
        except BaseException:
            self.close()
            raise

    def play(self, ids: Sequence[int], fresh: bool, together: bool = False, watched: bool = False) -> Played:
        """Give the model tokens of one sequence; see `LlamaCpp.play`."""
        answer = self._process.ask(ids=list(map(int, ids)), fresh=fresh, together=together, watched=watched)
        return Played(answer["seconds"], answer["experts"], answer.get("counters", {}))

    def close(self) -> None:
        """End the process and free its memory."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
