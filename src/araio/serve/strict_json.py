"""`JsonRoute`: a route whose request body is strict JSON: no NaN, no depth without end, no other type.

FastAPI reads a body with Python's own parser, which lets NaN through and can be made to recurse. Here it is
read by pydantic's, which does not, and what it refuses is told as every other mistake. Lists that become a
model for each of their entries are counted first: ten thousands of those are time that all others wait.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from araio.serve.errors import ApiError, check_count, invalid
from araio.serve.settings import Settings

__all__ = ["JsonRoute"]


COUNTED = {"messages": "messages", "input": "messages", "tools": "tools"}
"""Fields that hold lists, whatever the route, each with its limit."""


class JsonRequest(Request):
    """A request whose body is read strictly."""

    async def json(self) -> Any:
        """The document in the body.

        Raises:
            ApiError: the body is no JSON, or has a list that is longer than the server allows.
        """
        if not hasattr(self, "_json"):
            try:
                document = from_json(await self.body(), allow_inf_nan=False)
            except ValueError as error:
                raise invalid(f"the body is not valid JSON: {error}", None, "invalid_json") from None
            _check_counts(document, self.app.state.service.settings)
            self._json = document
        return self._json


class JsonRoute(APIRoute):
    """For routers whose requests have a JSON body: `APIRouter(route_class=JsonRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which gets a request that reads strictly."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            if self.body_field is not None and _has_body(request):
                _check_type(request)
            return await handle(JsonRequest(request.scope, request.receive))

        return strict


def _check_counts(document: Any, settings: Settings) -> None:
    for name, limit in COUNTED.items():
        value = document.get(name) if isinstance(document, dict) else None
        if isinstance(value, list):
            check_count(name, len(value), getattr(settings, limit), limit)


def _has_body(request: Request) -> bool:
    """Whether one was announced; a route whose body may be left out is asked without a type, too."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _check_type(request: Request) -> None:
    # A page of another origin can send a form without asking first, JSON it cannot.
    found = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if found != "application/json" and not (found.startswith("application/") and found.endswith("+json")):
        shown = repr(found[:80]) if found else "missing"
        raise ApiError(
            415, f"Content-Type is {shown}; expected application/json", code="unsupported_media_type"
        )
