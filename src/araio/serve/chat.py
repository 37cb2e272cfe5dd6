"""`POST /v1/chat/completions`: the next answer of a conversation, in one piece or as a stream.

What is asked is checked by `schema_chat.py` and prepared by `araio.api`; what comes back is shaped by
`chat_answer.py` and `chat_chunks.py`. A client that hangs up ends its request, streamed or not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, ClassVar

from fastapi import APIRouter, Response

from araio.engine.generation import Generation
from araio.serve.asked import Asked
from araio.serve.chat_answer import chat_choice
from araio.serve.chat_chunks import ChatChunks
from araio.serve.schema_answers import ChatAnswer
from araio.serve.schema_chat import ChatRequest
from araio.serve.service import Service
from araio.serve.sse import DONE, data_event, streamed
from araio.serve.state import Holder, ServiceOf
from araio.serve.steps import Steps, merged
from araio.serve.strict_json import JsonRoute
from araio.serve.usage import usage_of

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute, tags=["chat"])


@router.post(
    "/v1/chat/completions",
    summary="Answer a conversation",
    responses=streamed(ChatAnswer, "answer", "chunks"),
)
async def chat_completions(body: ChatRequest, service: ServiceOf, holder: Holder) -> Response:
    """The next answer of a conversation, with its reasoning apart."""
    service.check_model(body.model)
    body.check(service.settings, service.context)
    return AskedChat(body, service, holder).response(is_stream=bool(body.stream))


class AskedChat(Asked):
    """One request under way."""

    fields: ClassVar[Mapping[str, str]] = {"prompt": "messages", "thinking_budget": "thinking_token_budget"}

    def __init__(self, body: ChatRequest, service: Service, holder: str) -> None:
        super().__init__(service, holder, "chatcmpl", body.choices)
        self._body = body

    def document(self, flows: Sequence[Steps]) -> dict[str, Any]:
        answers = [flow.answer() for flow in flows]
        field = self.service.settings.reasoning_field
        document = {
            **self.head("chat.completion"),
            "choices": [
                chat_choice(index, flow, answer, self._body, field)
                for index, (flow, answer) in enumerate(zip(flows, answers, strict=True))
            ],
            "usage": usage_of(answers),
        }
        if self._body.return_token_ids:
            document["prompt_token_ids"] = flows[0].job.prompt.tolist()
        return document

    async def events(self) -> AsyncGenerator[bytes]:
        """The answer as it comes."""
        async with self.answering() as flows:
            chunks = ChatChunks(self.head("chat.completion.chunk"), flows, self._body, self.service)
            for document in chunks.opening():
                yield data_event(document)
            if self._body.return_progress:
                async for document in chunks.progress():
                    yield data_event(document)
            async for index, step in merged(flows):
                for document in chunks.of_step(index, step):
                    yield data_event(document)
            if self._body.includes_usage:
                yield data_event(chunks.usage())
            yield DONE

    def prepare(self) -> list[Generation]:
        body = self._body
        messages = [message.to_dict() for message in body.messages]
        samplings = [body.sampling(index) for index in range(body.choices)]
        return self.service.model.prepare_choices(messages, samplings, **body.options())
