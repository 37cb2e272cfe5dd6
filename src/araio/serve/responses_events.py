"""`ResponseEvents`: an answer as the events of OpenAI's Responses, and as the document at the end.

Both ways of asking use it, so that what was streamed adds up to what is given at once. Each block of the
answer is an item of the output: reasoning, a message, or a function call. Knows nothing of HTTP. Read
`responses.py` for who sends the events, `blocks.py` for the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import time
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from araio.engine.answer import Answer, Step
from araio.serve.blocks import Block, Blocks, Change, Kind, What
from araio.serve.chat_answer import logprobs_of
from araio.serve.errors import ApiError
from araio.serve.responses_document import (
    FunctionCallItem,
    IncompleteDetails,
    InputTokensDetails,
    MessageItem,
    OutputItem,
    OutputText,
    OutputTokensDetails,
    ReasoningItem,
    ReasoningText,
    ResponseDocument,
    ResponseError,
    ResponseUsage,
    Status,
)
from araio.serve.schema_responses import Reasoning, ResponsesRequest, TextConfig
from araio.serve.usage import receipt_of

__all__ = ["ResponseEvents"]

Event = dict[str, Any]

# What the text of a block is called in the names of events.
TEXTS = {Kind.REASONING: "reasoning_text", Kind.TEXT: "output_text", Kind.CALL: "function_call_arguments"}


class ResponseEvents:
    """The events of one response; `document` is what they add up to so far.

    response_id  by which it can be controlled
    model        name that the response carries
    """

    def __init__(self, request: ResponsesRequest, response_id: str, model: str) -> None:
        self.document = _document(request, response_id, model)
        self._blocks = Blocks()
        self._sequence = 0
        self._logprobs: list[Event] = []  # of tokens whose text is still held back

    def start(self) -> list[Event]:
        """Events before the first token."""
        return [self._lifecycle("created"), self._lifecycle("in_progress")]

    def take(self, step: Step) -> list[Event]:
        """Events of a token, often none."""
        if step.logprob is not None:
            self._logprobs += logprobs_of([step.logprob], reasoning_field=None)["content"]
        changes = [change for delta in step.deltas for change in self._blocks.take(delta)]
        return [event for change in changes for event in self._events(change, "completed")]

    def finish(self, answer: Answer) -> list[Event]:
        """Events behind the last token."""
        is_cut = answer.finish_reason == "length"
        status: Status = "incomplete" if is_cut else "completed"
        events = self._close(status)
        self.document.status, self.document.usage = status, _usage(answer)
        if is_cut:
            self.document.incomplete_details = IncompleteDetails()
        else:
            self.document.completed_at = int(time())
        return [*events, self._lifecycle(status)]

    def fail(self, error: ApiError) -> list[Event]:
        """Events of an answer that cannot go on."""
        events = self._close("incomplete")
        self.document.status, self.document.error = "failed", ResponseError(message=error.message)
        return [*events, self._lifecycle("failed")]

    def _close(self, status: Status) -> list[Event]:
        return [event for change in self._blocks.close() for event in self._events(change, status)]

    def _events(self, change: Change, status: Status) -> Iterator[Event]:
        """Events of a change; one that closes a block leaves its item with this status."""
        if change.what is What.OPENED:
            self.document.output.append(_item(change.block))
            yield from self._opened(change.block)
        elif change.what is What.GREW:
            yield self._grown(change.block, change.piece)
        else:
            yield from self._closed(change.block, status)

    def _opened(self, block: Block) -> Iterator[Event]:
        item = self.document.output[block.index]
        yield self._event("output_item.added", output_index=block.index, item=item.model_dump())
        if isinstance(item, FunctionCallItem):
            self._logprobs.clear()  # what was held back was the call and no text
        else:
            part = _add_part(item)
            yield self._event("content_part.added", **_place(block, item), part=part.model_dump())

    def _grown(self, block: Block, piece: str) -> Event:
        item = self.document.output[block.index]
        event = self._event(f"{TEXTS[block.kind]}.delta", **_place(block, item), delta=piece)
        if isinstance(item, MessageItem):
            event["logprobs"], self._logprobs = self._logprobs, []
            item.content[0].logprobs += event["logprobs"]
        return event

    def _closed(self, block: Block, status: Status) -> Iterator[Event]:
        item = self.document.output[block.index]
        item.status = status
        name, place = f"{TEXTS[block.kind]}.done", _place(block, item)
        if isinstance(item, FunctionCallItem):
            item.arguments = block.text
            yield self._event(name, **place, arguments=item.arguments)
        else:
            part = item.content[0]
            part.text = block.text
            logprobs = {"logprobs": part.logprobs} if isinstance(part, OutputText) else {}
            yield self._event(name, **place, text=part.text, **logprobs)
            yield self._event("content_part.done", **place, part=part.model_dump())
        yield self._event("output_item.done", output_index=block.index, item=item.model_dump())

    def _lifecycle(self, name: str) -> Event:
        return self._event(name, response=self.document.model_dump())

    def _event(self, name: str, /, **fields: Any) -> Event:
        self._sequence += 1
        return {"type": f"response.{name}", "sequence_number": self._sequence - 1, **fields}


def _item(block: Block) -> OutputItem:
    identity = uuid4().hex
    if block.kind is Kind.REASONING:
        return ReasoningItem(id=f"rs_{identity}")
    if block.kind is Kind.TEXT:
        return MessageItem(id=f"msg_{identity}")
    return FunctionCallItem(id=f"fc_{identity}", call_id=block.call_id, name=block.name, arguments="")


def _add_part(item: MessageItem | ReasoningItem) -> OutputText | ReasoningText:
    """The only part that an item has."""
    if isinstance(item, MessageItem):
        item.content.append(OutputText())
    else:
        item.content.append(ReasoningText())
    return item.content[0]


def _place(block: Block, item: OutputItem) -> dict[str, Any]:
    place = {"item_id": item.id, "output_index": block.index}
    return place if block.kind is Kind.CALL else {**place, "content_index": 0}


def _usage(answer: Answer) -> ResponseUsage:
    usage = answer.usage
    return ResponseUsage(
        input_tokens=usage["prompt_tokens"],
        input_tokens_details=InputTokensDetails(
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"]
        ),
        output_tokens=usage["completion_tokens"],
        output_tokens_details=OutputTokensDetails(
            reasoning_tokens=usage["completion_tokens_details"]["reasoning_tokens"]
        ),
        total_tokens=usage["total_tokens"],
        araio=receipt_of(answer),
    )


def _document(request: ResponsesRequest, response_id: str, model: str) -> ResponseDocument:
    """A response that has just begun; it repeats what was asked for."""
    choice = request.tool_choice
    return ResponseDocument(
        id=response_id,
        created_at=int(time()),
        model=model,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs or 0,
        reasoning=(request.reasoning or Reasoning()).model_dump(),
        text=(request.text or TextConfig()).model_dump(by_alias=True, exclude_none=True),
        tools=[tool.model_dump() for tool in request.tools or ()],
        tool_choice=choice.model_dump() if isinstance(choice, BaseModel) else choice or "auto",
        parallel_tool_calls=request.parallel_tool_calls is not False,
        metadata=request.metadata or {},
        user=request.user,
    )
