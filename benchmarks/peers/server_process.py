"""`ServerProcess`: a program that serves HTTP on a port of this machine, until `close`.

The port is free when it is chosen, and the program is ready when its `/health` says so. What it prints goes
to a file, of which an error repeats the end.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx2

from peers.json_process import LAST_WORDS, PeerError

__all__ = ["ServerProcess"]

POLL_S = 0.1
END_S = 10.0  # between asking a server to end and ending it


class ServerProcess:
    """One server.

    name     that errors call it
    command  gives the command line for a port
    ready_s  it has until it must be ready; large models take a while to load

    Raises PeerError where it ends or is not ready by then.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[int], Sequence[str]],
        environment: Mapping[str, str] | None = None,
        ready_s: float = 600.0,
    ) -> None:
        self.name = name
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self._process = subprocess.Popen(
            command(port),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else os.environ | environment,
        )
        try:
            self._await_ready(ready_s)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def printed(self) -> str:
        """All that it printed so far."""
        # By its position, which reading would move for the program, too: both have the same open file.
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace").strip()

    def last_words(self) -> str:
        """The end of that."""
        return self.printed()[-LAST_WORDS:]

    def close(self) -> None:
        """End the program and free its memory."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await_ready(self, ready_s: float) -> None:
        deadline = time.monotonic() + ready_s
        while not self._is_ready():
            if not self.is_running:
                raise PeerError(
                    f"{self.name} ended with status {self._process.returncode}: {self.last_words()}"
                )
            if time.monotonic() > deadline:
                raise PeerError(f"{self.name} was not ready after {ready_s:.0f} s: {self.last_words()}")
            time.sleep(POLL_S)

    def _is_ready(self) -> bool:
        try:
            # Without the environment's proxies: this is the machine itself.
            return (
                httpx2.get(f"{self.url}/health", timeout=5.0, trust_env=False).status_code == httpx2.codes.OK
            )
        except httpx2.TransportError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
