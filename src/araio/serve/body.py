"""`read_body`: a request's body, whole, under limits of size and time that hold while it arrives.

What it says about its own length is believed only to refuse it sooner. All bodies together have a limit, too,
so that many large ones cannot fill the memory; a small one always finds room. Read `guard.py` for the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from araio.serve.errors import ApiError

__all__ = ["BodyReader", "Message", "Receive"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

# Of this many full bodies at a time there is room for; those that are small need not ask.
FULL_BODIES = 16
SMALL_BODY_BYTES = 64 << 10


class BodyReader:
    """Reads the bodies of one server.

    most_bytes    of one body
    most_seconds  for one to arrive
    """

    def __init__(self, most_bytes: int, most_seconds: float) -> None:
        self.most_bytes, self.most_seconds = most_bytes, most_seconds
        self.held_bytes = 0

    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The body; None if the client went away before it was there.

        Raises:
            ApiError: it is too large or too slow, or there are too many at once.
        """
        length = headers.get(b"content-length", b"0")
        # A number of so many digits is none that fits; h11 has seen that all of them are digits.
        if len(length) > 18 or int(length) > self.most_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self.most_seconds):
                return await self._fill(body, receive)
        except TimeoutError:
            raise ApiError(
                408, f"the body did not arrive within {self.most_seconds:g} s (body_s)", code="body_time"
            ) from None
        finally:
            self.held_bytes -= len(body)

    async def _fill(self, body: bytearray, receive: Receive) -> bytes | None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            if len(body) + len(piece) > self.most_bytes:
                raise self._too_large()
            body += piece
            self.held_bytes += len(piece)
            is_crowded = self.held_bytes > FULL_BODIES * self.most_bytes
            if is_crowded and len(body) > SMALL_BODY_BYTES:
                raise ApiError(
                    503,
                    "too many large requests arrive at once",
                    code="body_memory",
                    headers={"Retry-After": "2"},
                )
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> ApiError:
        return ApiError(
            413, f"the body is larger than {self.most_bytes:,} bytes (body_bytes)", code="body_size"
        )
