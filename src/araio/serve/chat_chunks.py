"""`ChatChunks`: the chunks of a streamed chat completion, as documents.

First each choice's role, then what each token brings: reasoning, content, pieces of tool calls; the last
chunk of a choice has its finish reason, and the last of all the usage, if it was asked for. Read
`chat_answer.py` for the answer in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from araio.engine.answer import ContentDelta, Delta, ReasoningDelta, Step
from araio.serve.chat_answer import logprobs_of
from araio.serve.experts import watched_token
from araio.serve.schema_chat import ChatRequest
from araio.serve.service import Service
from araio.serve.steps import Steps
from araio.serve.usage import running_usage, usage_of
from araio.text.tool_calls import ToolCallDelta

__all__ = ["ChatChunks"]

PROGRESS_S = 0.1
"""How often to look how far a prompt has come."""


class ChatChunks:
    """Those of one request.

    head             keys that every chunk has
    """

    def __init__(
        self, head: dict[str, Any], flows: Sequence[Steps], body: ChatRequest, service: Service
    ) -> None:
        reasoning_field = service.settings.reasoning_field
        self._tokenizer = service.model.tokenizer
        self._head = head
        self._flows = flows
        self._body = body
        self._reasoning_field = None if body.include_reasoning is False else reasoning_field

    def opening(self) -> Iterator[dict[str, Any]]:
        """The first chunk of each choice."""
        for index, flow in enumerate(self._flows):
            chunk = self._chunk(index, {"role": "assistant", "content": ""})
            if self._body.return_token_ids:
                chunk["prompt_token_ids"] = flow.job.prompt.tolist()
            yield chunk

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """How much of the prompt has run, whenever more has, until the first token; as llama.cpp tells it."""
        flow, job = self._flows[0], self._flows[0].job
        told, began = -1, monotonic()
        while not flow.has_news:
            if (processed := min(job.length, len(job.prompt))) > told:
                told = processed
                chunk = self._chunk(0, {})
                chunk["prompt_progress"] = {
                    "total": len(job.prompt),
                    "cache": job.cached_tokens,
                    "processed": processed,
                    "time_ms": round(1000 * (monotonic() - began)),
                }
                yield chunk
            with suppress(TimeoutError):
                await asyncio.wait_for(flow.wake.wait(), PROGRESS_S)

    def of_step(self, index: int, step: Step) -> list[dict[str, Any]]:
        """What one token brings; often nothing. What is told of the token comes with its first chunk."""
        more = self._of_token(step)
        is_told = bool(more) or step.routes is not None
        deltas = [shown for delta in step.deltas if (shown := self._delta(delta)) is not None]
        if is_told and not deltas and step.finish_reason is None:
            deltas = [{}]
        chunks = [self._chunk(index, delta) for delta in deltas]
        if step.finish_reason is not None:
            chunks.append(self._chunk(index, {}))
            last = chunks[-1]["choices"][0]
            last.update(finish_reason=step.finish_reason, stop_reason=self._flows[index].stop_reason)
        if chunks:
            chunks[0]["choices"][0].update(more)
            if step.routes is not None:
                chunks[0]["araio"] = {"tokens": [watched_token(step, self._tokenizer)]}
        return chunks

    def usage(self) -> dict[str, Any]:
        """The last chunk, which has no choices."""
        answers = [flow.answer() for flow in self._flows]
        return {**self._head, "choices": [], "usage": usage_of(answers)}

    def _delta(self, delta: Delta) -> dict[str, Any] | None:
        match delta:
            case ReasoningDelta(text):
                return None if self._reasoning_field is None else {self._reasoning_field: text}
            case ContentDelta(text):
                return {"content": text}
            case ToolCallDelta():
                return _call(delta)

    def _of_token(self, step: Step) -> dict[str, Any]:
        """What is told of a token beside its text, if that was asked for."""
        more: dict[str, Any] = {}
        if self._body.return_token_ids:
            more["token_ids"] = [step.id]
        if step.logprob is not None:
            more["logprobs"] = logprobs_of([step.logprob], self._reasoning_field)
        return more

    def _chunk(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        chunk: dict[str, Any] = {**self._head, "choices": [choice]}
        if self._body.has_running_usage:
            chunk["usage"] = running_usage(self._flows)
        elif self._body.includes_usage:
            chunk["usage"] = None
        return chunk


def _call(delta: ToolCallDelta) -> dict[str, Any]:
    function = {"arguments": delta.arguments}
    if delta.id is None:
        return {"tool_calls": [{"index": delta.index, "function": function}]}
    head = {"index": delta.index, "id": delta.id, "type": "function"}
    return {"tool_calls": [{**head, "function": {"name": delta.name, **function}}]}
