"""`ChatChunks`: the chunks of a streamed chat completion, as documents.

First each choice's role, then what each token brings: reasoning, content, pieces of tool calls; the last
chunk of a choice has its finish reason, and the last of all the usage, if it was asked for. Read
`chat_answer.py` for the answer in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from araio.engine.answer import ContentDelta, Delta, ReasoningDelta, Step
from araio.serve.chat_answer import logprobs_of
from araio.serve.schema_chat import ChatRequest
from araio.serve.usage import running_usage, usage_of
from araio.serve.worker import Steps

__all__ = ["ChatChunks"]


class ChatChunks:
    """Those of one request.

    head             keys that every chunk has
    reasoning_field  what the thinking is called
    """

    def __init__(
        self, head: dict[str, Any], flows: Sequence[Steps], body: ChatRequest, reasoning_field: str
    ) -> None:
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

    def of_step(self, index: int, step: Step) -> Iterator[dict[str, Any]]:
        """What one token brings; often nothing. What is told of the token comes with its first chunk."""
        more = self._of_token(step)
        deltas = [delta for delta in map(self._delta, step.deltas) if delta is not None]
        if more and not deltas and step.finish_reason is None:
            deltas = [{}]
        for delta in deltas:
            yield self._chunk(index, delta, **more)
            more = {}
        if step.finish_reason is not None:
            ends = {"finish_reason": step.finish_reason, "stop_reason": self._flows[index].stop_reason}
            yield self._chunk(index, {}, **more, **ends)

    def usage(self) -> dict[str, Any]:
        """The last chunk, which has no choices."""
        answers = [flow.generation.answer() for flow in self._flows]
        return {**self._head, "choices": [], "usage": usage_of(answers)}

    def _delta(self, delta: Delta) -> dict[str, Any] | None:
        match delta:
            case ReasoningDelta(text):
                return None if self._reasoning_field is None else {self._reasoning_field: text}
            case ContentDelta(text):
                return {"content": text}

    def _of_token(self, step: Step) -> dict[str, Any]:
        """What is told of a token beside its text, if that was asked for."""
        more: dict[str, Any] = {}
        if self._body.return_token_ids:
            more["token_ids"] = [step.id]
        if step.logprob is not None:
            more["logprobs"] = logprobs_of([step.logprob], self._reasoning_field)
        return more

    def _chunk(self, index: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}
        chunk = {**self._head, "choices": [choice]}
        if self._body.has_running_usage:
            chunk["usage"] = running_usage(self._flows)
        elif self._body.includes_usage:
            chunk["usage"] = None
        return chunk
