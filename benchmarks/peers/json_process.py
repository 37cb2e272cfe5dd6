"""`JsonProcess`: a program that is asked in lines of JSON and answers in lines of JSON.

Engines that are measured from outside are such programs; `Played` is what they say of tokens they were given.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from araio.errors import AraioError

__all__ = ["JsonProcess", "PeerError", "Played"]

LAST_WORDS = 2000  # characters of the program's stderr that an error repeats


class PeerError(AraioError):
    """An engine that is not built, cannot load a model, or cannot do what it was asked."""


@dataclass(frozen=True)
class Played:
    """Tokens that an engine was given.

    experts   that each token chose, as [token][MoE layer][k]; empty where nobody watched
    counters  of the engine so far, by name; empty where it has none
    """

    seconds: float
    experts: list[list[list[int]]]
    counters: dict[str, float] = field(default_factory=dict)


class JsonProcess:
    """One program, until `close`.

    name  that errors call it
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=None if environment is None else os.environ | environment,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one line and wait for the answer; raises PeerError for an error, and when the program ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"{self.name} ended with status {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{answer['error']} {self._last_words()}".strip())
        return answer

    def close(self) -> None:
        """End the program and free its memory."""
        self._process.kill()  # it has nothing to lose, and may be in the middle of loading
        self._process.communicate()
        self._stderr.close()

    def _last_words(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - LAST_WORDS))
        return self._stderr.read().decode(errors="replace").strip()
