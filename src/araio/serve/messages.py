"""`POST /v1/messages` and its `count_tokens`: Anthropic's Messages, with thinking as blocks of its own.

What is asked is checked by `schema_messages.py` and translated by `messages_ask.py`; what comes back is
shaped by `messages_events.py`. Errors of these routes have Anthropic's shape, see `errors.py`; `relay.py`
runs them.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Response

from araio.serve.messages_ask import ask_of, conversation_of
from araio.serve.messages_document import MessageDocument, TokenCount
from araio.serve.messages_events import MessageEvents
from araio.serve.relay import Relay
from araio.serve.schema_messages import CountTokensRequest, MessagesRequest
from araio.serve.service import new_id
from araio.serve.sse import streamed
from araio.serve.state import Holder, ServiceOf
from araio.serve.strict_json import JsonRoute

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute, tags=["messages"])


@router.post(
    "/v1/messages",
    summary="Answer a conversation, as Anthropic's Messages",
    responses=streamed(MessageDocument, "message", "events"),
)
async def messages(body: MessagesRequest, service: ServiceOf, holder: Holder) -> Response:
    """The next answer of a conversation, as blocks: thinking, text, calls of tools."""
    service.check_model(body.model)
    body.check(service.settings, service.context)
    answer_id = new_id("msg")
    relay = Relay(
        service,
        holder,
        answer_id,
        partial(ask_of, body),
        lambda generation: MessageEvents(body, answer_id, service.name, len(generation.job.prompt)),
    )
    return relay.response(is_stream=bool(body.stream))


@router.post("/v1/messages/count_tokens", summary="Count the tokens of a prompt")
async def count_tokens(body: CountTokensRequest, service: ServiceOf) -> TokenCount:
    """Tokens that the prompt of the same request would have; more than the context holds are refused."""
    service.check_model(body.model)
    body.check(service.settings, service.context)

    ids = await service.start(lambda: conversation_of(body).prompt(service.model.chat_format).ids)
    return TokenCount(input_tokens=len(ids))
