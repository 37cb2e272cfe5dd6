"""`Ledger`: what the engine's steps did, read and drew, booked to the requests they did it for.

Every step reads the dense weights once and each expert that it uses once, for all of its requests together.
Their bytes are shared by tokens: an expert's by those that it was given. The seconds of a step are shared by
multiply-adds, and the joules of a window of many steps by those seconds. All shares are whole numbers and add
up to what was shared (`costs/share.py`).

A window opens with a request's first step and closes when a request ends, so the time that a slow reader
takes between two tokens is in it: the machine waited for that request, and whoever comes after a long pause
has no part in it. What is drawn while no request runs is nobody's. Read `costs/work.py` for what the counts
are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from araio.costs.share import split
from araio.costs.work import StreamedWork, Work
from araio.engine.job import Job
from araio.engine.scheduler import Work as Planned
from araio.engine.speculate import Progress
from araio.kernels.ops import Int32Array, Int64Array
from araio.meters.meter import Mark, Meter
from araio.nn.model import Model
from araio.weights.counters import StreamCounters
from araio.weights.residency import StreamedExperts

if TYPE_CHECKING:
    from araio.costs.rates import Rates

__all__ = ["Ledger"]

# Distinct experts are counted for so many steps in one go, or after so many rows of ids.
STEPS_AT_ONCE = 64
ROWS_AT_ONCE = 4096

# RAPL's counters wrap after some twenty minutes.
LONGEST_WINDOW_NS = 60 * 10**9

# A pause from which on those who run after it are not charged for it: a window ends there.
LONG_PAUSE_S = 1.0

# An expert's reading is divided this finely; far more finely than by tokens.
PARTS = 1 << 32


Part: TypeAlias = tuple[Work, int, int]
"""One request's work, its tokens in a step, and how many of them had scores computed."""
Step: TypeAlias = tuple[Sequence[Part], Sequence[Int32Array]]
"""The parts of a step whose distinct experts are still to be counted, and the ids (T, K) of each layer."""


class Ledger:
    """Keeps count for one engine.

    position_bytes  of the latent cache, for one position in one layer
    meter           of the joules
    streamed        where the model's experts come from, if not all are in memory
    """

    def __init__(
        self, model: Model, position_bytes: int, meter: Meter, streamed: StreamedExperts | None = None
    ) -> None:
        config = model.config
        self.meter = meter
        self.held = model.held
        self._layer_bytes = position_bytes
        self._cache_bytes = position_bytes * config.num_hidden_layers
        self._experts = max(1, config.n_routed_experts)
        self._config = config
        self._steps: list[Step] = []
        self._rows = 0
        self._weights: list[tuple[Job, int]] = []
        self._busy: dict[Job, int] = {}
        self._busy_ns = 0
        self._start: Mark | None = None
        self._closed_s = 0.0
        self._streamed = streamed
        self._streamed_before = StreamCounters() if streamed is None else streamed.counters

    def open(self) -> None:
        """A step is about to run."""
        self._weights.clear()  # of one that was interrupted
        if self._streamed is not None:  # what was read beside the engine is no request's
            self._streamed_before = self._streamed.counters
        if self._start is not None and monotonic() - self._closed_s > LONG_PAUSE_S:
            self.settle(is_idle=True)
        if self._start is None:
            self._start = self.meter.mark()

    def count(self, plan: Sequence[Planned], routes: Sequence[Int32Array]) -> None:
        """A step of the main model, before its requests take their tokens.

        routes  that `Model.step` gave
        """
        parts = []
        for job, tokens, scores in plan:
            work, before = job.work, job.length
            is_prompt = before < len(job.prompt)
            pairs = _attend(work, tokens, before, is_prompt)
            work.cache_bytes += (before + tokens) * self._cache_bytes
            # Alone in a step there is nothing to share, nor in one that is run again request by request.
            weight = self._multiply_adds(tokens, scores, pairs, is_prompt) if len(plan) > 1 else 1
            self._weights.append((job, weight))
            parts.append((work, tokens, scores))
        self._read(parts, self.held.dense, routes)

    def count_drafts(self, drafting: Sequence[Progress], routes: Sequence[Int32Array]) -> None:
        """A step of the MTP module, which has left a draft with whoever can use one."""
        parts = []
        for job, followers, _, is_prompt in drafting:
            work, tokens = job.draft_work, len(followers)
            _attend(work, tokens, job.length - tokens, is_prompt)
            work.cache_bytes += job.length * self._layer_bytes
            parts.append((work, tokens, int(job.draft is not None)))
        self._read(parts, self.held.draft, routes)

    def close(self, seconds: float, has_ended: bool, is_idle: bool) -> None:
        """A step is over, and took so many seconds.

        has_ended  a request has, and wants to know what it took
        is_idle    as in `settle`
        """
        nanoseconds, weights, busy = round(seconds * 1e9), self._weights, self._busy
        if len(weights) == 1:
            job = weights[0][0]
            busy[job] = busy.get(job, 0) + nanoseconds
        elif weights:
            shares = split(nanoseconds, [weight for _, weight in weights])
            for (job, _), share in zip(weights, shares, strict=True):
                busy[job] = busy.get(job, 0) + share
        if self._streamed is not None and weights:
            self._share_streamed(self._streamed.counters)
        weights.clear()
        self._busy_ns += nanoseconds
        self._closed_s = monotonic()
        if has_ended or self._busy_ns > LONGEST_WINDOW_NS:
            self.settle(is_idle)

    def settle(self, is_idle: bool) -> None:
        """Close the window and book all that has happened.

        is_idle  nobody runs any more, so the next window opens with the next step
        """
        self._count_experts()
        if self._start is None:
            return
        end = self.meter.mark()
        if any(self._busy.values()):
            energy, shares = self.meter.between(self._start, end), list(self._busy.values())
            columns = (energy.joules, energy.low, energy.high, energy.idle_joules or 0.0)
            parts = [split(round(joules * 1e6), shares) for joules in columns]
            for job, microjoules in zip(self._busy, zip(*parts, strict=True), strict=True):
                job.energy.add(*microjoules)
        self._busy.clear()
        self._busy_ns = 0
        self._start = None if is_idle else end

    def _share_streamed(self, counters: StreamCounters) -> None:
        """Book what was asked for and read since the step before, in the same shares as its seconds."""
        new = counters.since(self._streamed_before)
        weights = [weight for _, weight in self._weights]
        amounts = new.outcomes() | {"disk_bytes": new.read_bytes, "disk_ns": round(new.busy_s * 1e9)}
        for name, amount in amounts.items():
            for (job, _), share in zip(self._weights, split(amount, weights), strict=True):
                work = job.streamed = job.streamed or StreamedWork()
                setattr(work, name, getattr(work, name) + share)

    @cached_property
    def _rates(self) -> tuple[Rates, int]:
        """Of the main model, and multiply-adds of a token with all that it is multiplied with but the head.

        Loaded when two requests first share a step: the first token of one need not wait for it.
        """
        from araio.costs.rates import Rates

        config, rates = self._config, Rates.of_model(self._config)
        uses = len(config.moe_layers) * config.num_experts_per_tok
        return rates, rates.token + rates.expansion + uses * rates.expert

    def _multiply_adds(self, tokens: int, scores: int, pairs: int, is_prompt: bool) -> int:
        """A request's part of a step, by which its seconds are shared."""
        rates, per_token = self._rates
        pair = rates.expanded_pair if is_prompt else rates.absorbed_pair
        return tokens * per_token + scores * rates.score + pairs * pair

    def _read(self, parts: Sequence[Part], dense: int, routes: Sequence[Int32Array]) -> None:
        """Book the bytes of one step; those of experts now only if nothing is shared, else with others."""
        held = self.held
        uses = len(routes) * routes[0].shape[1] if routes else 0
        for work, tokens, scores in parts:
            work.expert_uses += tokens * uses
            work.scores += scores
        if len(parts) == 1:
            work, tokens, scores = parts[0]
            work.weight_bytes += dense + tokens * held.row + (held.head if scores else 0)
            if tokens == 1:  # chose each of its experts once
                work.expert_bytes += uses * held.expert
                return
        else:
            dense_parts = split(dense, [tokens for _, tokens, _ in parts])
            readers = [scores for _, _, scores in parts]
            head_parts = split(held.head, readers) if any(readers) else readers
            for (work, tokens, _), of_dense, of_head in zip(parts, dense_parts, head_parts, strict=True):
                work.weight_bytes += of_dense + of_head + tokens * held.row
        if routes:
            self._steps.append((parts, routes))
            self._rows += len(routes) * len(routes[0])
            if len(self._steps) >= STEPS_AT_ONCE or self._rows >= ROWS_AT_ONCE:
                self._count_experts()

    def _count_experts(self) -> None:
        """Book the distinct experts of the steps that are waiting: in each layer of a step, each once."""
        steps, self._steps, self._rows = self._steps, [], 0
        if not steps:
            return
        layers = [ids for _, routes in steps for ids in routes]
        rows = np.repeat(np.arange(len(layers)), [len(ids) for ids in layers])
        keys = rows[:, None] * self._experts + np.concatenate(layers)  # one for each expert of each layer
        readers = np.bincount(keys.ravel(), minlength=len(layers) * self._experts)
        bytes_read = int(np.count_nonzero(readers)) * self.held.expert
        owners = list({id(work): work for parts, _ in steps for work, _, _ in parts}.values())
        if len(owners) == 1:
            owners[0].expert_bytes += bytes_read
            return
        number = {id(work): place for place, work in enumerate(owners)}
        of_row = np.concatenate([_owners(step, number) for step in steps])
        # A token's part of a layer's reading: of each of its experts, one over the tokens that share it.
        of_token = (1 / readers[keys]).sum(axis=1)
        parts = np.rint(np.bincount(of_row, of_token, len(owners)) * PARTS).astype(np.int64).tolist()
        for work, share in zip(owners, split(bytes_read, parts), strict=True):
            work.expert_bytes += share


def _attend(work: Work, tokens: int, before: int, is_prompt: bool) -> int:
    """Count tokens behind `before` others; gives the pairs of a token and a position that it attends to."""
    pairs = tokens * before + tokens * (tokens + 1) // 2
    work.tokens += tokens
    if is_prompt:
        work.expanded_pairs += pairs
        work.expanded_positions += before + tokens
    else:
        work.absorbed_pairs += pairs
        work.absorbed += tokens
    return pairs


def _owners(step: Step, number: dict[int, int]) -> Int64Array:
    """The number of the request that each row of a step's ids belongs to, layer after layer."""
    parts, routes = step
    rows = np.repeat([number[id(work)] for work, _, _ in parts], [tokens for _, tokens, _ in parts])
    return np.tile(rows, len(routes))
