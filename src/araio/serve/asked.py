"""`Asked`: one request in OpenAI's older style: one or several answers, as a document or as chunks.

Chat and completions differ in what they prepare and in the shape of what they give; how a request runs, and
what frames its documents, is the same. Read `chat.py` and `completions.py` for the two, `relay.py` for the
dialects of events.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

from fastapi import Response

from araio.engine.generation import Generation
from araio.serve.errors import naming
from araio.serve.service import Service, new_id
from araio.serve.sse import EventStream
from araio.serve.steps import Steps, merged
from araio.serve.whole import WholeAnswer, json_bytes

__all__ = ["Asked"]


class Asked(ABC):
    """One request under way.

    holder  who asks; nobody else can control it
    prefix  of its id, by which it can be controlled
    count   answers that it comes to
    """

    fields: ClassVar[Mapping[str, str]] = {}
    """What the dialect calls fields that have another name in Python."""

    def __init__(self, service: Service, holder: str, prefix: str, count: int) -> None:
        self.service = service
        self._holder = holder
        self._count = count
        self._id = new_id(prefix)
        self._created = int(time.time())

    def response(self, *, is_stream: bool) -> Response:
        """The answers as they come, or in one piece; a client that hangs up ends them."""
        return EventStream(self.events()) if is_stream else WholeAnswer(self._whole)

    @abstractmethod
    def prepare(self) -> Sequence[Generation]:
        """All answers, ready to run; called beside the event loop."""

    @abstractmethod
    def document(self, flows: Sequence[Steps]) -> dict[str, Any]:
        """All of it, once the last token was taken; called beside the event loop."""

    @abstractmethod
    def events(self) -> AsyncGenerator[bytes]:
        """The chunks, and their end."""

    def answering(self) -> AbstractAsyncContextManager[list[Steps]]:
        """Runs the answers while the block lasts."""
        return self.service.answering(self._holder, self._id, self._count, self._prepared)

    def head(self, kind: str) -> dict[str, Any]:
        """Keys that every document of the answer has.

        kind  its `object`
        """
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self.service.name,
            "system_fingerprint": self.service.fingerprint,
        }

    def _prepared(self) -> Sequence[Generation]:
        with naming(self.fields):
            return self.prepare()

    async def _whole(self) -> bytes:
        async with self.answering() as flows:
            async for _ in merged(flows):
                pass
            return await self.service.start(lambda: json_bytes(self.document(flows)))
