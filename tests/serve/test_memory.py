"""What a request leaves in memory while it runs: what it needs, and nothing of its body."""

from __future__ import annotations

import gc
import json
import socket
from typing import Any

import pytest

from araio.testing.waiting import eventually

MARK = 123_457
"""Entries of a list as there is no other."""


def marked() -> int:
    gc.collect()
    return sum(type(each) is list and len(each) == MARK for each in gc.get_objects())


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("place", ["more", "part"])
def test_what_nobody_knows_is_forgotten(live: Any, is_stream: bool, place: str) -> None:
    unknown = [0] * MARK
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Count."}]
    body = {"messages": messages, "max_tokens": 20_000, "logit_bias": {"1": -100}, "stream": is_stream}
    (body if place == "more" else messages[0])["more"] = unknown
    content = json.dumps(body)
    del body, messages, unknown
    assert marked() == 0
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
    running = live.service.model.engine.state
    with socket.create_connection(live.address) as client:
        client.sendall(f"{head}Content-Type: application/json\r\n\r\n{content}".encode())
        eventually(lambda: running().running == 1)
        assert marked() == 0
