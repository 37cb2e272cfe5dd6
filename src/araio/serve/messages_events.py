"""`MessageEvents`: an answer as the events of Anthropic's Messages, and as the document at the end.

Both ways of asking use it, so that what was streamed adds up to what is given at once. Knows nothing of HTTP.
Read `messages.py` for who sends the events, `blocks.py` for the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from pydantic_core import from_json

from araio.engine.answer import Answer, Step
from araio.serve.blocks import Block, Blocks, Change, Kind, What
from araio.serve.errors import ApiError, message_error_body
from araio.serve.messages_document import (
    ContentBlock,
    MessageDocument,
    MessageUsage,
    OutputTokensDetails,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
)
from araio.serve.schema_messages import MessagesRequest
from araio.serve.usage import receipt_of

__all__ = ["MessageEvents"]

Event = dict[str, Any]


class MessageEvents:
    """The events of one message; `document` is what they add up to so far.

    message_id     by which it can be controlled
    model          name that the message carries
    prompt_tokens  of its prompt; how many of them were in the cache is known at the end
    """

    def __init__(self, request: MessagesRequest, message_id: str, model: str, prompt_tokens: int) -> None:
        usage = MessageUsage(input_tokens=prompt_tokens)
        self.document = MessageDocument(id=message_id, model=model, usage=usage)
        self._blocks = Blocks()
        # Hidden thinking leaves a block that only says that there was some.
        self._shows_thinking = getattr(request.thinking, "display", None) != "omitted"

    def start(self) -> list[Event]:
        """Events before the first token."""
        return [{"type": "message_start", "message": self.document.model_dump()}, {"type": "ping"}]

    def take(self, step: Step) -> list[Event]:
        """Events of a token, often none."""
        changes = [change for delta in step.deltas for change in self._blocks.take(delta)]
        return [event for change in changes for event in self._events(change)]

    def finish(self, answer: Answer) -> list[Event]:
        """Events behind the last token."""
        events = [event for change in self._blocks.close() for event in self._events(change)]
        document = self.document
        document.usage = _usage(answer)
        document.stop_reason, document.stop_sequence = _stop(answer)
        delta = {"stop_reason": document.stop_reason, "stop_sequence": document.stop_sequence}
        last = {"type": "message_delta", "delta": delta, "usage": document.usage.model_dump()}
        return [*events, last, {"type": "message_stop"}]

    def fail(self, error: ApiError) -> list[Event]:
        """The event of an answer that cannot go on."""
        return [message_error_body(error)]

    def _events(self, change: Change) -> Iterator[Event]:
        block, content = change.block, self.document.content
        if change.what is What.OPENED:
            content.append(_empty(block))
            opened = content[block.index].model_dump()
            yield {"type": "content_block_start", "index": block.index, "content_block": opened}
        elif change.what is What.GREW and (block.kind is not Kind.REASONING or self._shows_thinking):
            yield _delta(block, **_piece(block.kind, change.piece))
        elif change.what is What.CLOSED:
            content[block.index] = filled = self._filled(block)
            if isinstance(filled, ThinkingBlock):
                yield _delta(block, type="signature_delta", signature=filled.signature)
            yield {"type": "content_block_stop", "index": block.index}

    def _filled(self, block: Block) -> ContentBlock:
        """A block that is complete."""
        text = block.text
        if block.kind is Kind.CALL:
            return ToolUseBlock(id=block.call_id, name=block.name, input=_arguments(text))
        if block.kind is Kind.TEXT:
            return TextBlock(text=text)
        signature = sha256(text.encode()).hexdigest()
        return ThinkingBlock(thinking=text if self._shows_thinking else "", signature=signature)


def _empty(block: Block) -> ContentBlock:
    if block.kind is Kind.CALL:
        return ToolUseBlock(id=block.call_id, name=block.name)
    return TextBlock() if block.kind is Kind.TEXT else ThinkingBlock()


def _delta(block: Block, **delta: str) -> Event:
    return {"type": "content_block_delta", "index": block.index, "delta": delta}


def _piece(kind: Kind, piece: str) -> dict[str, str]:
    if kind is Kind.CALL:
        return {"type": "input_json_delta", "partial_json": piece}
    if kind is Kind.TEXT:
        return {"type": "text_delta", "text": piece}
    return {"type": "thinking_delta", "thinking": piece}


def _arguments(text: str) -> dict[str, Any]:
    """Arguments of a call; of those that were cut off by the limit of tokens, what is complete.

    That is also what Anthropic's client makes of the same text where it is streamed.
    """
    try:
        arguments = from_json(text, allow_partial=True)
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _stop(answer: Answer) -> tuple[StopReason, str | None]:
    if answer.finish_reason == "length":
        return "max_tokens", None
    if answer.finish_reason == "tool_calls":
        return "tool_use", None
    if isinstance(answer.stop_reason, str):
        return "stop_sequence", answer.stop_reason
    return "end_turn", None


def _usage(answer: Answer) -> MessageUsage:
    usage = answer.usage
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    thinking = usage["completion_tokens_details"]["reasoning_tokens"]
    return MessageUsage(
        input_tokens=usage["prompt_tokens"] - cached,
        cache_read_input_tokens=cached,
        output_tokens=usage["completion_tokens"],
        output_tokens_details=OutputTokensDetails(thinking_tokens=thinking),
        araio=receipt_of(answer),
    )
