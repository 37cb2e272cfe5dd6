"""`Transcript`: one request's tokens as they come, turned into deltas, and at the end into an `Answer`.

It splits reasoning from answer, counts the tokens of both, and keeps the seconds. `generation.py` feeds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from araio.engine.answer import (
    Answer,
    ContentDelta,
    Delta,
    FinishReason,
    ReasoningDelta,
    Step,
    Timings,
    TokenLogprob,
    Usage,
)
from araio.engine.job import Job
from araio.engine.sampling import Sampled
from araio.engine.tokens import ExpertRoutes, GeneratedToken
from araio.text.reasoning import ReasoningSplitter, Split
from araio.text.tokenizer import Tokenizer
from araio.text.tool_calls import ToolCall, ToolCallDelta, ToolCallSplitter

if TYPE_CHECKING:
    from araio.engine.receipts import Receipts

__all__ = ["Transcript", "timed"]


def timed(tokens: Iterator[GeneratedToken]) -> Iterator[tuple[GeneratedToken, float]]:
    """Each token with the seconds it took to make; the time its consumer takes does not count."""
    while True:
        started = perf_counter()
        token = next(tokens, None)
        if token is None:
            return
        yield token, perf_counter() - started


class Transcript:
    """What one request has produced so far.

    splitter  finds the reasoning; None takes all text as the answer
    calls     finds the tool calls in the answer; None takes them as text
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        splitter: ReasoningSplitter | None = None,
        calls: ToolCallSplitter | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._splitter = splitter
        self._calls = calls
        self._reasoning: list[str] = []
        self._content: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._seconds: list[float] = []
        self._reasoning_tokens = 0
        self._finish_reason: FinishReason | None = None
        self._stop_reason: str | None = None

    @property
    def is_reasoning(self) -> bool:
        """Whether the next token is one of the thinking, as far as the text so far tells."""
        return self._splitter is not None and self._splitter.is_reasoning

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the thinking so far."""
        return self._reasoning_tokens

    @property
    def tokens(self) -> int:
        """All tokens so far."""
        return len(self._seconds)

    def add(self, token: GeneratedToken, seconds: float) -> Step:
        """Take the next token, which took so many seconds to make."""
        self._seconds.append(seconds)
        split, is_reasoning = self._split(token)
        deltas = self._keep(split, is_last=token.finish_reason is not None)
        self._reasoning_tokens += is_reasoning
        logprob = None
        if token.sampled.logprob is not None:
            logprob = self._named(token.sampled, token.sampled.logprob, is_reasoning)
            self._logprobs.append(logprob)
        self._stop_reason = token.stop_reason
        self._finish_reason = token.finish_reason
        if self._finish_reason == "stop" and self.tool_calls:
            self._finish_reason = "tool_calls"
        return Step(token.id, deltas, logprob, is_reasoning, self._finish_reason, token.routes)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Those so far."""
        return () if self._calls is None else self._calls.calls

    def answer(self, model: str, job: Job, receipts: Receipts) -> Answer:
        """The finished answer, after the last token was added; if none was wanted, after the prompt.

        job       the request that the tokens came from
        receipts  of the model
        """
        prompt_tokens = len(job.prompt)
        generated, reasoning = len(self._seconds), self._reasoning_tokens
        prefill_s = self._seconds[0] if self._seconds else job.prompt_s
        timings = Timings(prefill_s, sum(self._seconds[1:]), generated)
        receipt = receipts.receipt(job, reasoning, generated, timings.prefill_s, timings.decode_s)
        usage: Usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": generated,
            "total_tokens": prompt_tokens + generated,
            "prompt_tokens_details": {"cached_tokens": job.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
            "araio": receipt.to_json(),
        }
        return Answer(
            model=model,
            reasoning="".join(self._reasoning),
            content="".join(self._content),
            finish_reason=self._finish_reason or "length",
            usage=usage,
            timings=timings,
            receipt=receipt,
            tool_calls=self.tool_calls,
            stop_reason=self._stop_reason,
            logprobs=tuple(self._logprobs) or None,
            prompt_logprobs=self.prompt_logprobs(job),
            routes=None
            if job.routes is None
            else ExpertRoutes(*map(np.concatenate, zip(*job.routes, strict=True))),
        )

    def prompt_logprobs(self, job: Job) -> tuple[TokenLogprob | None, ...] | None:
        """Of every token of the prompt, once it has run; None for the first, and if nobody asked."""
        if job.prompt_logprobs is None:
            return None
        return None, *(self._named(sampled, sampled.logprob or 0.0, False) for sampled in job.prompt_logprobs)

    def _split(self, token: GeneratedToken) -> tuple[Split, bool]:
        """What a token adds to both parts, and whether it counts to the thinking."""
        if self._splitter is None:
            return Split("", token.text), False
        was_reasoning = self._splitter.is_reasoning
        split = self._splitter.push(token.text)
        # The token that completes a tag belongs to the reasoning it opens or closes.
        is_reasoning = was_reasoning or self._splitter.is_reasoning
        if token.finish_reason is not None:
            rest = self._splitter.flush()
            split = Split(split.reasoning + rest.reasoning, split.content + rest.content)
        return split, is_reasoning

    def _keep(self, split: Split, is_last: bool) -> list[Delta]:
        deltas: list[Delta] = []
        if split.reasoning:
            self._reasoning.append(split.reasoning)
            deltas.append(ReasoningDelta(split.reasoning))
        for piece in self._pieces(split.content, is_last):
            if isinstance(piece, str):
                self._content.append(piece)
                deltas.append(ContentDelta(piece))
            else:
                deltas.append(piece)
        return deltas

    def _pieces(self, content: str, is_last: bool) -> list[str | ToolCallDelta]:
        """What the answer is made of: text, none of it empty, and parts of tool calls."""
        if self._calls is None:
            return [content] if content else []
        pieces = self._calls.push(content) if content else []
        return pieces + self._calls.flush() if is_last else pieces

    def _named(self, sampled: Sampled, logprob: float, is_reasoning: bool) -> TokenLogprob:
        decode = self._tokenizer.decode
        return TokenLogprob(
            sampled.id,
            decode([sampled.id]),
            self._tokenizer.token_bytes(sampled.id),
            logprob,
            tuple((i, decode([i]), logprob) for i, logprob in sampled.alternatives),
            is_reasoning,
        )
