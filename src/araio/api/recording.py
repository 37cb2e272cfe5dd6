"""`Recording`: a trace of what a model does while a block runs.

    with model.trace("math.moetrace", domain="math") as recording:
        model.chat("What is 47 + 38 - 12?")
    recording.trace().experts

Every request of the model is in it, whichever thread asks. However the block ends, what was recorded until
then can be read. Read `engine/tracing.py` for what is kept of each step, `traces/` for the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeAlias

from araio.api.trace_header import completed, row_bytes, trace_header, weight_scale
from araio.config import ModelConfig
from araio.engine.generation import Generation
from araio.engine.margins import Margins
from araio.engine.tracing import Kept, Recorder
from araio.errors import AraioError, RequestError
from araio.json_reader import shown
from araio.traces import Trace, TraceWriter
from araio.weights.cache_events import CacheEventLog

if TYPE_CHECKING:
    from araio.api.model import Model

__all__ = ["Layers", "Recording", "RecordingOptions", "check_domain"]

Layers: TypeAlias = Literal["all"] | Sequence[int]

LONGEST_DOMAIN = 64
# A shard is put together as a whole, and read as one; rows of large models are large.
MOST_SHARD_BYTES = 256 << 20


class RecordingOptions(NamedTuple):
    """What a trace keeps; `Model.trace` says what each means."""

    domain: str = "all"
    text: bool = True
    weights: bool = True
    margin: bool = False
    layers: Layers = "all"
    max_tokens: int | None = None
    overwrite: bool = False


class Recording:
    """A context; `start` and `close` do the same for who cannot use one.

    path  of the trace, which is there once the recording is over

    Raises:
        RequestError: a model that routes nothing, a layer that does not, a domain that has no name.
    """

    def __init__(self, model: Model, path: str | Path, options: RecordingOptions) -> None:
        self.path = Path(path)
        self._model = model
        self._options = options
        self._places = _places(model.config, options.layers)
        check_domain(options.domain)
        if options.max_tokens is not None and options.max_tokens < 1:
            raise RequestError(
                f"max_tokens is {options.max_tokens}; expected 1 or more, or None for no limit"
            )
        self._margins = Margins(model.network) if options.margin else None
        self._writer: TraceWriter | None = None
        self._recorder: Recorder | None = None

    # ------------------------------------------------------------------ begin and end

    def start(self) -> None:
        """Begin; every token that the engine runs from now on is recorded.

        Raises:
            RequestError: the model is being recorded already.
            TraceError: the path is taken, or cannot be written.
        """
        model, options = self._model, self._options
        if model.recording is not None:
            raise RequestError(f"the model is being recorded into {model.recording.path}; end that first")
        layers = tuple(model.config.moe_layers[place] for place in self._places)
        header = trace_header(model, layers, options.domain)
        shard = min(1 << 20, max(1, MOST_SHARD_BYTES // row_bytes(header)))
        self._writer = TraceWriter(self.path, header, shard, overwrite=options.overwrite)
        model.recording = self
        events = self._attach()
        kept = Kept(
            places=self._places,
            scale=weight_scale(model.config),
            weights=options.weights,
            text=options.text,
            margins=self._margins,
            events=events,
        )
        self._recorder = Recorder(self._writer, kept, options.domain, options.max_tokens)
        model.engine.watch(self._recorder)

    def close(self) -> None:
        """End, and complete the trace; once is enough, more does no harm.

        Raises:
            TraceError: nothing was recorded, or the disk refuses.
            Exception: what ended the recording before; the trace holds what came until then.
        """
        self._end(is_discarded_if_empty=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self._end(is_discarded_if_empty=True)
        except AraioError as worse:
            error.add_note(f"the recording failed as well: {worse}")

    def _attach(self) -> CacheEventLog | None:
        """Note what the engine's steps do not tell."""
        model = self._model
        with model.engine.lock:
            if self._margins is not None:
                self._margins.attach()
            return None if model.experts is None else model.experts.record_events()

    def _detach(self) -> None:
        model = self._model
        with model.engine.lock:
            if self._margins is not None:
                self._margins.detach()
            if model.experts is not None:
                model.experts.forget_events()

    def _end(self, is_discarded_if_empty: bool) -> None:
        recorder, writer = self._recorder, self._writer
        if recorder is None or writer is None or self._model.recording is not self:
            return
        self._model.engine.unwatch(recorder)
        self._detach()
        self._model.recording = None
        try:
            recorder.flush()
        finally:
            if is_discarded_if_empty and not recorder.rows:
                writer.discard()
            else:
                writer.header = completed(writer.header, recorder.profiles, recorder.has_drafts)
                writer.close()
        if recorder.error is not None:
            raise recorder.error

    # ------------------------------------------------------------------ meanwhile

    @contextmanager
    def domain(self, name: str) -> Iterator[None]:
        """Requests that begin within the block belong to this domain, whichever thread asks.

        Raises:
            RequestError: a name that is empty, long or not printable.
        """
        recorder = self._running()
        before, recorder.domain = recorder.domain, check_domain(name)
        try:
            yield
        finally:
            recorder.domain = before

    def assign(self, generation: Generation, domain: str) -> None:
        """Give one prepared request a domain, whatever the others have; before it runs.

        Raises:
            RequestError: as `domain`.
        """
        self._running().assign(generation.job, check_domain(domain))

    @property
    def tokens(self) -> int:
        """Rows so far."""
        return 0 if self._recorder is None else self._recorder.rows

    @property
    def is_full(self) -> bool:
        """Whether it records nothing more: it has its `max_tokens`, or something went wrong."""
        return self._recorder is not None and self._recorder.is_full

    def tokens_by_domain(self) -> dict[str, int]:
        """Rows of each domain; complete once the recording is over."""
        return {} if self._recorder is None else self._recorder.rows_by_domain()

    def trace(self) -> Trace:
        """The trace, once the recording is over.

        Raises:
            TraceError: there is none yet.
        """
        return Trace.open(self.path)

    def _running(self) -> Recorder:
        if self._recorder is None or self._model.recording is not self:
            raise RequestError("the recording does not run; use it inside its `with` block")
        return self._recorder


def check_domain(name: str) -> str:
    """The name, if it can be one of a domain: short and printable.

    Raises:
        RequestError: it cannot.
    """
    if not name.strip() or len(name) > LONGEST_DOMAIN or not name.isprintable():
        raise RequestError(
            f"the domain is {shown(name)}; expected a name of 1 to {LONGEST_DOMAIN} printable characters",
            param="domain",
        )
    return name


def _places(config: ModelConfig, layers: Layers) -> list[int]:
    """Which of the routed layers are asked for, by their places among them."""
    routed = list(config.moe_layers)
    if not routed:
        raise RequestError("the model has no routed experts, so there is nothing to trace")
    asked = routed if layers == "all" else sorted({int(layer) for layer in layers})
    foreign = [layer for layer in asked if layer not in routed]
    if foreign or not asked:
        found = "none are" if not asked else f"{foreign[0]} is"
        raise RequestError(f"layers: {found} given; expected some of {routed[0]} to {routed[-1]}, or 'all'")
    return [routed.index(layer) for layer in asked]
