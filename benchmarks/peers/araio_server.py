"""`AraioServer`: `araio serve` in a process of its own, driven as `LlamaServer` is."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from peers.server_process import ServerProcess

__all__ = ["AraioServer"]


class AraioServer(ServerProcess):
    """A model behind `araio serve`, with its state and its caches in a folder that goes with it.

    options      of the command besides
    environment  of the process besides

    Raises PeerError where it refuses or ends.
    """

    def __init__(
        self,
        model: str | Path,
        threads: int,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        # So that neither what earlier runs left changes a run, nor a run what is there.
        self._home = tempfile.TemporaryDirectory(prefix="araio-serve-")
        folders = dict.fromkeys(("XDG_STATE_HOME", "XDG_CACHE_HOME"), self._home.name)
        command = [sys.executable, "-m", "araio", "serve", str(model), "--threads", str(threads), *options]
        super().__init__(
            "araio serve",
            lambda port: [*command, "--port", str(port)],
            {**folders, "PYTHONPATH": ":".join(sys.path), **(environment or {})},
        )

    def close(self) -> None:
        super().close()
        self._home.cleanup()
