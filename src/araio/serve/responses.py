"""`POST /v1/responses`: OpenAI's Responses without a store: a conversation comes with every request.

What is asked is checked by `schema_responses.py` and translated by `responses_ask.py`; what comes back is
shaped by `responses_events.py`, and run by `relay.py`.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Response

from araio.serve.relay import Relay
from araio.serve.responses_ask import ask_of
from araio.serve.responses_document import ResponseDocument
from araio.serve.responses_events import ResponseEvents
from araio.serve.schema_responses import ResponsesRequest
from araio.serve.service import new_id
from araio.serve.sse import streamed
from araio.serve.state import Holder, ServiceOf
from araio.serve.strict_json import JsonRoute

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute, tags=["responses"])


@router.post(
    "/v1/responses",
    summary="Answer a conversation, as OpenAI's Responses",
    responses=streamed(ResponseDocument, "response", "events"),
)
async def responses(body: ResponsesRequest, service: ServiceOf, holder: Holder) -> Response:
    """The next answer of a conversation, as items: reasoning, messages, function calls."""
    service.check_model(body.model)
    body.check(service.settings, service.context)
    answer_id = new_id("resp")
    relay = Relay(
        service,
        holder,
        answer_id,
        partial(ask_of, body),
        lambda _: ResponseEvents(body, answer_id, service.name),
    )
    return relay.response(is_stream=bool(body.stream))
