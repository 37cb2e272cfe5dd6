"""`Job`: one request in the engine, from the moment it is submitted until its last token.

It holds what belongs to the request alone: its prompt, its sampler, its pages, the tokens that nobody has
fetched yet. Read `scheduler.py` for when it runs, `engine.py` for how.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from araio.config import ModelConfig
from araio.costs.work import StreamedWork, Work
from araio.engine.guide import Guide
from araio.engine.kept import check_kept
from araio.engine.request import SamplingParams, check_prompt, room_for
from araio.engine.sampling import Sampled, Sampler, score
from araio.engine.tokens import Emitter, ExpertRoutes, GeneratedToken, Watch
from araio.errors import CacheFullError
from araio.kernels.ops import Int64Array
from araio.nn.batch import Segment
from araio.nn.kv_cache import LatentCache, pages_for
from araio.nn.mask import ExpertMask
from araio.tensors import Float32Array
from araio.text.tokenizer import Tokenizer

__all__ = ["EnergyShare", "Job"]


@dataclass
class EnergyShare:
    """A request's part of the energy of its windows, in microjoules, as in `meters.energy.Energy`."""

    joules: int = 0
    low: int = 0
    high: int = 0
    idle: int = 0

    def add(self, joules: int, low: int, high: int, idle: int) -> None:
        """Its part of one window more."""
        self.joules += joules
        self.low += low
        self.high += high
        self.idle += idle


class Job:
    """A request's life: waiting, its prompt in chunks, its tokens one or two at a time, done.

    params         that it was asked with
    guide          that its tokens follow, if it has one
    prompt         (n,) int64
    cache          its sequence; None while it waits and when it is done
    pages          the most that it can ever hold
    tokens         what was generated and not yet fetched
    error          what ended it early
    is_done        nothing more will come
    is_cancelled   nobody wants more of it; any thread may say so, and the next step ends it
    prompt_logprobs  of the prompt's tokens from the second on, if it was asked for them; else None.
                   Such a request runs its whole prompt, whatever is in the cache
    prompt_s       seconds until its prompt had run, those in line included
    watches        whose experts it was asked for; None where nobody's
    mask           the experts that it may use; None for all
    routes         the experts of each step's positions that are kept, if it was asked for all; else None.
                   Such a request runs its whole prompt, whatever is in the cache
    cached_tokens  of the prompt, found in the cache instead of being run
    is_drafting    the MTP module runs along
    draft          the token that is expected to come next, if one was drafted
    draft_tokens, accepted_draft_tokens  that were checked, and that were right
    work           that was done for it by the main model
    draft_work     the same by the MTP module
    energy         that it took; complete once it is done and its last step is over
    streamed       experts that were asked for while it ran; None where all are in memory
    queue_s        seconds in line, once it was admitted

    Raises:
        RequestError: a prompt that cannot run, see `check_prompt`; more to keep than `check_kept` allows.
        CacheFullError: a prompt that leaves no room in a cache of `cache_tokens` for an answer.
    """

    def __init__(
        self,
        config: ModelConfig,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        stop_ids: Collection[int],
        tokenizer: Tokenizer | None,
        cache_tokens: int,
        guide: Guide | None = None,
        *,
        watches: Watch | None = None,
        mask: ExpertMask | None = None,
    ) -> None:
        check_prompt(config, prompt_ids, params, has_tokenizer=tokenizer is not None)
        # A cache that is smaller than the context ends an answer as the context would.
        room = min(room_for(config, prompt_ids, params), cache_tokens - len(prompt_ids))
        if room < min(1, params.max_tokens):
            raise CacheFullError(
                f"a prompt of {len(prompt_ids)} tokens and its answer do not fit into a cache of "
                f"{cache_tokens} tokens; shorten the prompt, or give more cache_tokens"
            )
        check_kept(config, params, len(prompt_ids), room, keeps_experts=watches == "all")
        self.params = params
        self.guide = guide
        self.prompt = np.asarray(prompt_ids, dtype=np.int64)
        self.pages = pages_for(len(self.prompt) + room)
        self.cache: LatentCache | None = None
        self.tokens: deque[GeneratedToken] = deque()
        self.error: Exception | None = None
        self.is_done = False
        self.is_cancelled = False
        self.prompt_logprobs: list[Sampled] | None = None if params.prompt_logprobs is None else []
        self.prompt_s = 0.0
        self.watches = watches
        self.mask = mask
        self.routes: list[ExpertRoutes] | None = [] if watches == "all" else None
        self.cached_tokens = 0
        self.is_drafting = False
        self.draft: int | None = None
        self.draft_tokens = 0
        self.accepted_draft_tokens = 0
        self.work = Work()
        self.draft_work = Work()
        self.energy = EnergyShare()
        self.streamed: StreamedWork | None = None
        self.queue_s = 0.0
        self._queued_at = 0.0
        self._last = 0  # the newest token, which has not run yet
        self._alternatives = params.prompt_logprobs or 0
        self._sampler = Sampler(params, prompt_ids, config.vocab_size, guide)
        self._emitter = Emitter(tokenizer, params, stop_ids, room)

    def enter_queue(self) -> None:
        """It was submitted."""
        self._queued_at = perf_counter()

    def leave_queue(self, cache: LatentCache) -> None:
        """It was admitted, with a cache that may hold the beginning of its prompt."""
        self.queue_s = perf_counter() - self._queued_at
        self.cache = cache
        self.cached_tokens = cache.length

    @property
    def prompt_left(self) -> int:
        """Tokens of the prompt that have not run yet."""
        return len(self.prompt) - self.length if self.length < len(self.prompt) else 0

    @property
    def may_skip(self) -> bool:
        """Whether nobody wants to know what all of its prompt does, so that a part from the cache will do."""
        return self.routes is None and self.prompt_logprobs is None

    @property
    def mask_id(self) -> str:
        """Of its mask, empty without one: under another mask the same ids leave something else in a page."""
        return "" if self.mask is None else self.mask.id

    @property
    def length(self) -> int:
        """Positions that are filled."""
        return 0 if self.cache is None else self.cache.length

    @property
    def may_use_drafts(self) -> bool:
        """Whether it may come to enough tokens for a draft: one behind the first, and one behind that."""
        return self._emitter.room > 2

    @property
    def can_use_draft(self) -> bool:
        """Whether two more tokens may come: one that is certain, and the draft behind it."""
        return self.prompt_left == 0 and not self.is_done and self._emitter.room >= 2

    def pages_for_next(self, count: int) -> int:
        """Pages that running so many more tokens takes, beside those that it has."""
        assert self.cache is not None
        return max(0, pages_for(self.length + count) - len(self.cache.pages))

    def segment(self, count: int) -> Segment:
        """What runs next: `count` tokens of the prompt, or the newest token and the draft behind it."""
        assert self.cache is not None
        if self.prompt_left:
            start = self.cache.length
            return Segment(self.prompt[start : start + count], self.cache, False, self.mask)
        ids = [self._last] if self.draft is None else [self._last, self.draft]
        return Segment(np.array(ids, dtype=np.int64), self.cache, True, self.mask)

    def take(self, count: int, logits: Float32Array, routes: ExpertRoutes | None = None) -> Int64Array:
        """Choose tokens after `count` tokens have run.

        logits   (n, W): none within a prompt, one row behind it, one row for each token of an answer, and for
                 each of a prompt whose log-probabilities were asked for
        routes   of each of the tokens, if this request was asked for them
        returns  (T,) the token that follows each of those that have run and are kept: all but a wrong draft

        Raises:
            GenerationError: a logit is NaN or infinite.
        """
        followers = (
            self._take_prompt(count, logits, routes) if self.prompt_left else self._go_on(logits, routes)
        )
        if self.routes is not None and routes is not None:
            kept = count if self.length <= len(self.prompt) else len(followers)
            self.routes.append(ExpertRoutes(routes.ids[:kept], routes.weights[:kept]))
        return followers

    def _take_prompt(self, count: int, logits: Float32Array, routes: ExpertRoutes | None) -> Int64Array:
        assert self.cache is not None
        self.cache.advance(count)
        followers = self.prompt[self.length - count + 1 : self.length + 1]
        if self.prompt_logprobs is not None:
            scored = zip(followers.tolist(), logits, strict=False)  # what follows the last one is not given
            self.prompt_logprobs += [score(token, row, self._alternatives) for token, row in scored]
        if self.prompt_left:
            return followers
        self.prompt_s = perf_counter() - self._queued_at
        if not self._emitter.room:
            self.is_done = True
            return followers
        self._choose(logits[-1], routes, count - 1)
        return np.append(followers, self._last)

    def _go_on(self, logits: Float32Array, routes: ExpertRoutes | None) -> Int64Array:
        assert self.cache is not None
        draft, self.draft = self.draft, None
        self.cache.advance(1)
        self._choose(logits[0], routes, 0)
        self.draft_tokens += draft is not None
        if self._last != draft or self.is_done:
            return np.array([self._last])
        self.accepted_draft_tokens += 1
        self.cache.advance(1)
        self._choose(logits[1], routes, 1)
        return np.array([draft, self._last])

    def _choose(self, logits: Float32Array, routes: ExpertRoutes | None, row: int) -> None:
        at = None if routes is None else ExpertRoutes(routes.ids[row], routes.weights[row])
        token = self._emitter.emit(self._sampler.sample(logits), at)
        self.tokens.append(token)
        self._last = token.id
        self.is_done = token.finish_reason is not None
