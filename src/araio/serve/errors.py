"""`ApiError`: what a client is told when a request cannot be answered, in one shape for every status.

    {"error": {"message", "type", "param", "code"}}

Errors of `araio.errors` become one by `api_error`; whatever is nobody's mistake but ours is a 500 that says
nothing of its inside. The types are those of llama.cpp's server; under `/v1/messages` they are Anthropic's,
and the object says itself that it is an error. Read `app.py` for where they are caught.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi.exceptions import HTTPException
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from araio.errors import (
    AraioError,
    CacheFullError,
    CheckpointError,
    ContextError,
    DiskError,
    GenerationError,
    RequestError,
    TextError,
)

__all__ = [
    "LOGGED",
    "ApiError",
    "ErrorAnswer",
    "api_error",
    "check_count",
    "error_body",
    "error_response",
    "invalid",
    "message_error_body",
    "naming",
]

INVALID = "invalid_request_error"
TYPES = {
    400: INVALID,
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: INVALID,
    413: INVALID,
    415: INVALID,
    429: "rate_limit_error",
    431: INVALID,
    499: "request_cancelled_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
LOGGED = frozenset({"internal_error", "weights_unreadable"})
"""Codes of errors whose causes a client is not told, for they may hold paths or prompts: they are logged."""

ANTHROPIC_PATH = "/v1/messages"
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class ApiError(HTTPException):
    """An answer that is an error.

    status   of HTTP
    message  what was found, what was expected, what to do
    param    the field of the request that is at fault
    code     a word for programs
    kind     the `type`; by the status if None
    more     further keys of the error
    headers  of the response
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str | None = None,
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.message = message
        self.param = param
        self.code = code
        self.kind = kind or TYPES.get(status, INVALID if status < 500 else "server_error")
        self.more = dict(more or {})


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="What was found, what was expected, what to do.")
    type: str
    param: str | None = Field(description="The field of the request that is at fault.")
    code: str | None
    n_prompt_tokens: int | None = Field(None, description="Of a conversation that does not fit.")
    n_ctx: int | None = Field(None, description="Tokens that would fit.")


class ErrorAnswer(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail


def invalid(message: str, param: str | None, code: str | None = "invalid_value") -> ApiError:
    """A request that cannot be meant as it is."""
    return ApiError(400, message, param=param, code=code)


def check_count(param: str, found: int, limit: int, name: str) -> None:
    """Refuse more than the server allows, and name the limit, which `araio serve --limit` can raise.

    Raises:
        ApiError: 400 with `param`.
    """
    if found > limit:
        raise invalid(f"{param} comes to {found}; this server's limit {name} is {limit}", param)


@contextmanager
def naming(fields: Mapping[str, str]) -> Iterator[None]:
    """Errors that come up within are about what was sent, under the name that the dialect has for it.

    fields  names of the dialect by those that the model's own interface has for the same
    """
    try:
        yield
    except AraioError as error:
        error.param = fields.get(error.param or "", error.param)
        raise


def api_error(error: Exception) -> ApiError:
    """What a client is told of an exception, wherever it came up."""
    match error:
        case ApiError():
            return error
        case ContextError():
            return ApiError(
                400,
                str(error),
                param=error.param,
                code="context_length_exceeded",
                kind="exceed_context_size_error",
                more={"n_prompt_tokens": error.tokens, "n_ctx": error.limit},
            )
        case RequestError() | TextError():
            return invalid(str(error), error.param)
        case CacheFullError():
            return ApiError(
                400,
                str(error),
                param=error.param,
                code="cache_full",
                kind="exceed_context_size_error",
                more={"n_prompt_tokens": error.tokens, "n_ctx": error.limit},
            )
        case GenerationError():
            return ApiError(500, str(error), code="generation_failed")
        case CheckpointError() | DiskError():
            message = "weights that this needs cannot be read, or are damaged; the server's log says which"
            return ApiError(500, message, code="weights_unreadable")
    return ApiError(500, "the server failed at this request; its log says why", code="internal_error")


def error_body(error: ApiError) -> dict[str, Any]:
    """The JSON document of an error."""
    detail = {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
    return {"error": {**detail, **error.more}}


def message_error_body(error: ApiError) -> dict[str, Any]:
    """The same under Anthropic's types, as its clients read it."""
    detail = error_body(error)["error"]
    kind = ANTHROPIC_TYPES.get(error.status_code, INVALID if error.status_code < 500 else "api_error")
    return {"type": "error", "error": {**detail, "type": kind}}


class ErrorResponse(Response):
    """The response that carries an error, in the shape that the path's clients read."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(status_code=error.status_code, headers=error.headers)
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_message = f"{scope['path']}/".startswith(f"{ANTHROPIC_PATH}/")
        body = message_error_body(self._error) if is_message else error_body(self._error)
        await JSONResponse(body, self.status_code, self._error.headers)(scope, receive, send)


def error_response(error: ApiError) -> Response:
    """The response that carries it."""
    return ErrorResponse(error)
