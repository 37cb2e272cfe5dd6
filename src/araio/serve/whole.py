"""`WholeAnswer`: an answer in one piece, which nobody goes on making when its client has left.

The request runs while the response is being sent, as it does for a stream: by then nothing holds the body
that it came in. Large documents are written by whoever makes them, beside the event loop. Read `sse.py` for
answers that come piece by piece.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from araio.serve.errors import ApiError

__all__ = ["ClientGoneError", "WholeAnswer", "json_bytes", "unless_gone"]

ResultT = TypeVar("ResultT")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class ClientGoneError(ApiError):
    """The client has hung up; whatever is answered is for nobody."""

    def __init__(self) -> None:
        super().__init__(499, "the client has gone", code="client_gone")


def json_bytes(document: dict[str, Any]) -> bytes:
    """A document as it is sent."""
    # Half of a surrogate pair cannot come out of a tokenizer; out of a client's own words it can.
    return _encode(document).encode(errors="replace")


class WholeAnswer(Response):
    """The JSON document that `work` gives as bytes."""

    media_type = "application/json"

    def __init__(self, work: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        super().__init__(None, 200)
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        content = await unless_gone(receive, self._work())
        await Response(content, media_type=self.media_type)(scope, receive, send)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of `work`, which is cancelled as soon as the client has hung up.

    Raises:
        ClientGoneError: nobody will read it.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGoneError
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
