"""`create_app`: the routes, and one shape for everything that goes wrong.

The app serves one `Service`, whose thread lives as long as the app does. FastAPI's own pages of documentation
are left out, since they load their scripts from elsewhere; the document itself is at `/openapi.json`. Read
`chat.py` for the route that matters most, `guard.py` for what stands in front of all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import araio
from araio.errors import AraioError
from araio.serve import (
    chat,
    completions,
    expert_routes,
    messages,
    operations,
    responses,
    static,
    tokenization,
)
from araio.serve.errors import LOGGED, ApiError, ErrorAnswer, api_error, error_response
from araio.serve.service import Service
from araio.serve.validation import validation_error

__all__ = ["create_app"]

log = logging.getLogger("araio.serve")

ERRORS = {
    400: "The request cannot be meant as it is; `param` names the field.",
    401: "No key, or one that is not known.",
    403: "The request comes from a page or a name that may not ask.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many requests of this key are under way.",
    431: "The headers are too large.",
    499: "The request was cancelled, or its client left its tokens untaken.",
    500: "The server failed; its log says why.",
    503: "The server is busy, not ready yet, or about to end.",
}


def create_app(service: Service) -> FastAPI:
    """The application that serves a model."""
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": text} for status, text in ERRORS.items()
    }
    app = FastAPI(
        title="araio",
        version=araio.__version__,
        description="The OpenAI-compatible API of `araio serve`.",
        openapi_url=None,  # see operations.py
        redirect_slashes=False,  # a client that follows such a redirect leaves its body, or its key, behind
        responses=errors,
        lifespan=_lifespan,
    )
    app.state.service = service
    api = (chat, completions, responses, messages, tokenization, operations, expert_routes)
    for module in (*api, static):
        app.include_router(module.router)
    _handle_errors(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.worker.start()
    try:
        yield
    finally:
        # It ends with the step that is running; the loop must go on meanwhile, for that step's tokens.
        await asyncio.to_thread(service.close)


def _handle_errors(app: FastAPI) -> None:
    """Every error leaves in the same shape, whoever raised it."""

    @app.exception_handler(ApiError)
    @app.exception_handler(AraioError)
    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        told = api_error(error)
        if told.code in LOGGED and isinstance(error, AraioError):
            # Others are raised on, and logged, by the framework.
            log.error("a request failed", exc_info=error)
        return error_response(told)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        return error_response(validation_error(error.errors(), error.body))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        method, path = request.method, request.url.path
        messages = {404: f"there is no {path}", 405: f"{path} does not take {method}"}
        message = messages.get(error.status_code, str(error.detail))
        return error_response(ApiError(error.status_code, message, headers=error.headers))
