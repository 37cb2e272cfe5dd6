"""`ChatChunks`: the chunks of a streamed chat completion, as documents.

First each choice's role, then what each token brings: reasoning, content, pieces of tool calls; the last
chunk of a choice has its finish reason, and the last of all the usage, if it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from araio.engine.answer import ContentDelta, ReasoningDelta, Step
from araio.serve.schema_chat import ChatRequest
from araio.serve.settings import Settings
from araio.serve.usage import running_usage, usage_of
from araio.serve.worker import Steps

__all__ = ["ChatChunks"]


class ChatChunks:
    """Those of one request.

    head  keys that every chunk has
    """

    def __init__(
        self, head: dict[str, Any], flows: Sequence[Steps], body: ChatRequest, settings: Settings
    ) -> None:
        self._head = head
        self._flows = flows
        self._body = body
        self._shows_reasoning = body.include_reasoning is not False
        self._field = settings.reasoning_field

    def opening(self) -> Iterator[dict[str, Any]]:
        """The first chunk of each choice."""
        for index in range(len(self._flows)):
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def of_step(self, index: int, step: Step) -> Iterator[dict[str, Any]]:
        """What one token brings; often nothing."""
        for delta in step.deltas:
            match delta:
                case ReasoningDelta(text):
                    if self._shows_reasoning:
                        yield self._chunk(index, {self._field: text})
                case ContentDelta(text):
                    yield self._chunk(index, {"content": text})
        if step.finish_reason is not None:
            yield self._chunk(index, {}, step.finish_reason)

    def usage(self) -> dict[str, Any]:
        """The last chunk, which has no choices."""
        answers = [flow.generation.answer() for flow in self._flows]
        return {**self._head, "choices": [], "usage": usage_of(answers)}

    def _chunk(self, index: int, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._head, "choices": [choice]}
        if self._body.has_running_usage:
            chunk["usage"] = running_usage(self._flows)
        elif self._body.includes_usage:
            chunk["usage"] = None
        return chunk
