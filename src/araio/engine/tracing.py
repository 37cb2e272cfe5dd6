"""`Recorder`: what every token's experts were, from the engine's steps to the rows of a trace.

It watches an engine and keeps references to what each step gives; rows are made of many steps at once, so
that a token hardly pays for it. A row says what its token was part of: a prompt, the thinking as the chat
format tells it apart, or the answer. Tokens that the prefix cache spared a request have rows without routes.
What goes wrong here ends the recording and is told when it is closed; no request notices. Read `watch.py`
for what a step is, `traces/columns.py` for the columns, `api/recording.py` for who opens and closes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from araio.engine.guide import ThinkingGuide
from araio.engine.job import Job
from araio.engine.margins import Margins
from araio.engine.watch import Drafted, EngineStep, Ran
from araio.kernels.ops import Int32Array
from araio.nn.mask import masks_of
from araio.tensors import Float32Array
from araio.traces import Phase, Rows, Segment, TraceWriter, Valid
from araio.weights.cache_events import CacheEventLog

__all__ = ["Kept", "Recorder"]

BLOCK_ROWS = 1024
"""Rows that are made at once: enough that their making is spread thin, and no step waits long for it."""

Array = npt.NDArray[Any]


class Kept(NamedTuple):
    """Which of what a step gives goes into the trace.

    places   of the layers, among those that route
    scale    that the router has multiplied its weights by, and a trace's are not
    weights, text, margins, events  whether these are kept; the last two are read from where they are noted
    """

    places: Sequence[int]
    scale: float
    weights: bool
    text: bool
    margins: Margins | None
    events: CacheEventLog | None


class _Met(NamedTuple):
    """A request that has been seen: its number in the trace, and that of its domain."""

    seq: int
    domain: int


class Recorder:
    """A watcher of an engine that writes a trace.

    domain      of requests that begin while it stands here
    max_tokens  after so many rows the recording is full; the step that reaches them is the last
    rows        so far
    domains     names of those that occurred, in the order of their numbers
    profiles    ids of the masks that requests had, empty for none
    has_drafts  the layers that draft have run, so there are rows of theirs, too
    error       what ended the recording early
    """

    def __init__(self, writer: TraceWriter, kept: Kept, domain: str, max_tokens: int | None = None) -> None:
        self.domain = domain
        self.rows = 0
        self.domains: list[str] = []
        self.profiles: set[str] = set()
        self.error: Exception | None = None
        self.has_drafts = False
        self._rows_of: Counter[int] = Counter()
        self._writer = writer
        self._kept = kept
        self._most = max_tokens
        self._met: dict[Job, _Met] = {}
        self._sequences = 0
        self._assigned: dict[Job, str] = {}
        self._steps: list[EngineStep] = []
        self._scores: list[Sequence[Float32Array]] = []  # of the same steps, if margins are wanted
        self._before: list[Rows] = []  # what belongs in front of them
        self._pending_rows = 0
        self._is_over = False

    @property
    def is_full(self) -> bool:
        """Whether nothing more is recorded, for there is enough or something went wrong."""
        return self._is_over

    def rows_by_domain(self) -> dict[str, int]:
        """Rows that were made so far, by the names of their domains."""
        return {name: self._rows_of[number] for number, name in enumerate(self.domains)}

    def assign(self, job: Job, domain: str) -> None:
        """Give one request a domain of its own, before its first step."""
        self._assigned[job] = domain

    def __call__(self, step: EngineStep) -> None:
        """Keep a step; see `engine.watch.Watcher`."""
        if self._is_over:
            return
        try:
            self._keep(step)
            if self._pending_rows >= BLOCK_ROWS:
                self.flush()
        except Exception as error:  # noqa: BLE001 - no request is to blame; raised when the trace is closed
            self.error, self._is_over = error, True

    def flush(self) -> None:
        """Make rows of all that was kept, and hand them to the writer."""
        self._hand_over()
        self._met = {job: met for job, met in self._met.items() if not job.is_done}

    def _hand_over(self) -> None:
        """The same, behind which requests of the step that is being kept are still known."""
        before, steps, scores = self._before, self._steps, self._scores
        self._before, self._steps, self._scores, self._pending_rows = [], [], [], 0
        for rows in before:
            self._writer.add(rows)
        if steps:
            self._write(steps, scores)
        if self._kept.events is not None:
            self._writer.add_cache_events(self._kept.events.take())

    # ------------------------------------------------------------------ behind each step

    def _keep(self, step: EngineStep) -> None:
        for part in step.parts:
            if part.job not in self._met:
                self._meet(part)
        self._steps.append(step)
        if self._kept.margins is not None:
            self._scores.append(self._kept.margins.latest())
        self._count(len(step.experts[0]))

    def _count(self, rows: int) -> None:
        self.rows += rows
        self._pending_rows += rows
        if self._kept.events is not None:
            self._kept.events.clock = self.rows
        if self._most is not None:
            self._is_over = self.rows >= self._most

    def _meet(self, part: Ran) -> None:
        job = part.job
        met = self._met[job] = _Met(self._sequences, self._number(self._assigned.pop(job, self.domain)))
        self._sequences += 1
        self.profiles.add(job.mask_id)
        # A recording that begins in the middle of a request has not seen what ran before it.
        if part.is_prompt and 0 < part.start == job.cached_tokens:
            if self._steps:
                self._hand_over()
            self._before.append(self._cached(job, met))
            self._count(part.start)
            self._rows_of[met.domain] += part.start

    def _number(self, domain: str) -> int:
        if domain not in self.domains:
            self._writer.name_domains([*self.domains, domain])
            self.domains.append(domain)
        return self.domains.index(domain)

    def _cached(self, job: Job, met: _Met) -> Rows:
        """Rows of the tokens that a request found in the cache, where nothing is known of their routes."""
        kept, count = self._kept, job.cached_tokens
        shape = len(kept.places), count, self._writer.header.top_k
        return Rows(
            expert_ids=np.zeros(shape, np.int32),
            weights=np.zeros(shape, np.float32) if kept.weights else None,
            margin=None if kept.margins is None else np.zeros(shape[:2], np.float32),
            token_id=job.prompt[:count] if kept.text else None,
            position=np.arange(count),
            seq=met.seq,
            domain=met.domain,
            phase=Phase.PREFILL,
            segment=Segment.PROMPT,
            valid=Valid.CACHED,
        )

    # ------------------------------------------------------------------ many steps at once

    def _write(self, steps: Sequence[EngineStep], scores: Sequence[Sequence[Float32Array]]) -> None:
        kept = self._kept
        parts = [part for step in steps for part in step.parts]
        rows = self._rows(
            parts,
            _joined(kept.places, [step.experts for step in steps]),
            _joined(kept.places, [step.weights for step in steps]) if kept.weights else None,
        )
        if kept.margins is not None:
            layers = zip(kept.places, _joined(kept.places, scores), strict=True)
            masks = masks_of([part.job.mask for part in parts], [part.tokens for part in parts])
            rows = rows._replace(margin=[kept.margins.of(place, layer, masks) for place, layer in layers])
        self._writer.add(rows)
        for domain, count in zip(*np.unique(rows.domain, return_counts=True), strict=True):
            self._rows_of[int(domain)] += int(count)
        runs = [run for step in steps for run in step.drafts if run.experts]
        if runs:
            self.has_drafts = True
            self._writer.add_draft(self._draft_rows(runs))

    def _draft_rows(self, runs: Sequence[Drafted]) -> Rows:
        places = range(len(runs[0].experts))
        rows = self._rows(
            [part for run in runs for part in run.parts],
            _joined(places, [run.experts for run in runs]),
            _joined(places, [run.weights for run in runs]) if self._kept.weights else None,
            ahead=1,
        )
        if self._kept.margins is None:
            return rows
        # Those of the main model are noted, and no others.
        unknown = np.full((len(places), len(rows.expert_ids[0])), np.inf, np.float32)
        return rows._replace(margin=unknown)

    def _rows(
        self,
        parts: Sequence[Ran],
        experts: Int32Array,
        weights: Float32Array | None,
        ahead: int = 0,
    ) -> Rows:
        """Rows of the parts of steps.

        experts, weights  (L, T, K) of all parts
        ahead             so many positions behind its own lies the token that a row reads
        """
        lengths = np.array([len(part.ids) for part in parts])
        number = {job: place for place, job in enumerate(dict.fromkeys(part.job for part in parts))}
        table = np.array([self._facts(job) for job in number])
        seq, domain, prompt, think, thought, impose, imposed = np.repeat(
            table[[number[part.job] for part in parts]], lengths, axis=0
        ).T
        within = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
        position = np.repeat([part.start for part in parts], lengths) + within
        place = position + ahead - prompt  # among the tokens that were generated
        is_thrown_away = within >= np.repeat([part.kept for part in parts], lengths)
        is_decoded = ~np.repeat([part.is_prompt for part in parts], lengths)
        phase = np.where(is_thrown_away, Phase.DRAFT, np.where(is_decoded, Phase.DECODE, Phase.PREFILL))
        is_thinking = (place >= think) & (place < thought)
        segment = np.where(
            place < 0, Segment.PROMPT, np.where(is_thinking, Segment.REASONING, Segment.ANSWER)
        )
        is_imposed = (place >= impose) & (place < imposed) & ~is_thrown_away
        return Rows(
            expert_ids=experts,
            weights=None if weights is None else weights / np.float32(self._kept.scale),
            token_id=np.concatenate([part.ids for part in parts]) if self._kept.text else None,
            position=position,
            seq=seq,
            phase=phase,
            domain=domain,
            segment=segment,
            valid=np.where(is_imposed, Valid.ROUTES | Valid.GUIDED, Valid.ROUTES),
        )

    def _facts(self, job: Job) -> tuple[int, ...]:
        """What rows need to know of their request: where its prompt ends, and its thinking so far."""
        met = self._met[job]
        thinking = imposed = range(0)
        if isinstance(job.guide, ThinkingGuide):
            thinking, imposed = job.guide.thinking, job.guide.imposed
        ends = (thinking.start, thinking.stop, imposed.start, imposed.stop)
        return met.seq, met.domain, len(job.prompt), *ends


def _joined(places: Sequence[int], steps: Sequence[Sequence[Array]]) -> Array:
    """What some layers gave, each (T, ...), of all steps one behind the other: (L, T, ...).

    All of it is put together in one go, since it is of very many and very small arrays, and then in order.
    """
    flat = np.concatenate(list(chain.from_iterable(steps)))
    lengths = np.array([len(layers[0]) for layers in steps])
    begins = (lengths.cumsum() - lengths) * (len(steps[0]) - 1)  # beside the rows of one layer
    rows = np.arange(lengths.sum()) + np.repeat(begins, lengths)
    joined: Array = flat[rows + np.repeat(lengths, lengths) * np.array(places)[:, None]]
    return joined
