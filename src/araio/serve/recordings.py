"""`Recordings`: traces of what a served model does, begun and ended over HTTP, in one folder.

    POST /start_expert_distribution_record  {"name": "math", "domain": "math"}
    POST /stop_expert_distribution_record

A client names a trace, never a path. Everybody's requests are in it, so whoever may record may read what
others ask, unless without text. Only who began one ends it. Read `api/recording.py` for what is recorded.
"""

from __future__ import annotations

import re
from pathlib import Path
from threading import Lock
from typing import Any

from araio.api import Model
from araio.api.recording import Recording
from araio.errors import RequestError, TraceError
from araio.lens.domains import domains_of_experts
from araio.traces import Trace
from araio.traces.claim import storage_errors

__all__ = ["Recordings", "domains_of"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Recordings:
    """Those of one server, one at a time.

    folder      that they go to; None where nobody may record
    max_tokens  of one of them; it goes no further then
    """

    def __init__(self, model: Model, folder: Path | None, max_tokens: int) -> None:
        self._model = model
        self._folder = folder
        self._most = max_tokens
        self._lock = Lock()
        self._recording: Recording | None = None
        self._holder = ""

    @property
    def is_recording(self) -> bool:
        """Whether a trace is being written."""
        return self._recording is not None

    def start(self, holder: str, name: str, domain: str, text: bool) -> None:
        """Begin a trace; it waits for the step that runs.

        holder  who begins it

        Raises:
            RequestError: no folder was given, a name that is no plain one or is taken, a domain that has no
                printable name, or a recording that runs already.
            TraceError: the disk refuses.
        """
        if self._folder is None:
            raise RequestError(
                "this server writes no traces; start it with --traces FOLDER, or send no name", param="name"
            )
        if not NAME.fullmatch(name):
            raise RequestError(
                "name: expected 1 to 64 letters, digits, dots, dashes and underscores, the first no mark",
                param="name",
            )
        with self._lock:
            if self._recording is not None:
                # What others call theirs is their business.
                is_own = self._holder == holder
                found = f"{self._recording.path.stem!r} is" if is_own else "somebody else's trace is"
                advice = "stop that first" if is_own else "wait for its end, or send no name"
                raise RequestError(f"{found} being recorded; {advice}", param="name")
            path = self._folder / f"{name}.moetrace"
            with storage_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                is_taken = path.exists()
            if is_taken:
                raise RequestError(f"there is a trace {name!r}; give another name", param="name")
            recording = self._model.trace(path, domain=domain, text=text, max_tokens=self._most)
            recording.start()
            self._recording, self._holder = recording, holder

    def describe(self, holder: str) -> dict[str, Any] | None:
        """The trace that is being written for this holder; None if none is."""
        recording = self._recording
        return None if recording is None or self._holder != holder else _described(recording)

    def stop(self, holder: str | None = None) -> dict[str, Any] | None:
        """Complete the trace that is being written, and describe it; None if none is.

        holder  whose it must be; anybody's if None

        Raises:
            RequestError: nothing was recorded.
            TraceError: the disk refuses.
        """
        with self._lock:
            recording = self._recording
            if recording is None or holder not in (None, self._holder):
                return None
            self._recording = None
            try:
                recording.close()
            except TraceError:
                if recording.tokens:
                    raise
                raise RequestError("no token ran while it was recorded, so there is no trace") from None
            return _described(recording)


def domains_of(model: Model, path: Path) -> dict[str, Any]:
    """Which domain each expert of a model serves more than others, by a trace of it.

    returns  the names of the domains, and for each routed layer and expert the number of one or None

    Raises:
        RequestError: a trace of another model.
        TraceError: no trace, or a damaged one.
    """
    trace = Trace.open(path)
    if trace.header.fingerprint != model.fingerprint:
        raise RequestError(
            f"{path} is a trace of {trace.header.model}, whose routers are not those of {model.name}; record "
            f"one with `araio trace {model.name}`"
        )
    rows = dict(zip(trace.header.layers, domains_of_experts(trace), strict=True))
    nobody = [None] * model.config.n_routed_experts
    return {
        "names": list(trace.domains),
        "experts": [rows.get(layer, nobody) for layer in model.config.moe_layers],
    }


def _described(recording: Recording) -> dict[str, Any]:
    return {
        "name": recording.path.stem,
        "tokens": recording.tokens,
        "domains": recording.tokens_by_domain(),
        "is_full": recording.is_full,
    }
