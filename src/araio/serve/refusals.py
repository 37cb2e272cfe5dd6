"""`RefusedError`: a request is told no before any route has seen it, in the shape that clients expect.

It is OpenAI's shape, `{"error": {"message", "type", "param", "code"}}`; for Anthropic's route the type stands
outside, too, where its client looks. Read `guard.py` and `http.py` for who refuses what.
"""

from __future__ import annotations

import json

__all__ = ["ANTHROPIC_KINDS", "KINDS", "Headers", "RefusedError", "is_anthropic"]

Headers = list[tuple[bytes, bytes]]

ANTHROPIC_PATH = "/v1/messages"

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
"""The type of an error by its status."""

ANTHROPIC_KINDS = KINDS | {413: "request_too_large", 500: "api_error", 503: "overloaded_error"}


def is_anthropic(path: str) -> bool:
    """Whether a request of this path comes from a client of Anthropic's."""
    return path == ANTHROPIC_PATH or path.startswith(ANTHROPIC_PATH + "/")


class RefusedError(Exception):
    """One of them, raised where something is found wrong and answered by the guard.

    reason         a word of a fixed set, for the count in `/metrics`
    retry_after_s  when to try again; None if the same request will never do
    """

    def __init__(self, status: int, reason: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.retry_after_s = retry_after_s

    def body(self, path: str = "") -> bytes:
        """The JSON document, for a request of this path."""
        is_message = is_anthropic(path)
        kind = (ANTHROPIC_KINDS if is_message else KINDS)[self.status]
        error = {"message": self.message, "type": kind, "param": None, "code": self.reason}
        document = {"type": "error", "error": error} if is_message else {"error": error}
        return json.dumps(document).encode()

    def headers(self, body: bytes) -> Headers:
        """Those of the answer with this body."""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        if self.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after_s))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return headers
