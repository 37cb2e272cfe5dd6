"""Streams of events: comments where nothing else comes, errors behind the first event, clients that leave."""

import asyncio
import json

import pytest

from araio.errors import GenerationError
from araio.serve.errors import ApiError
from araio.serve.sse import EventStream, data_event, unless_gone


def answered(stream, leaves_after=None):
    """What a stream sends to a client, who may leave after so many seconds."""
    sent = []

    async def receive():
        await asyncio.sleep(3600 if leaves_after is None else leaves_after)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    async def main():
        await asyncio.wait_for(stream({"type": "http"}, receive, send), 120)

    asyncio.run(main())
    return sent


def body_of(sent):
    return b"".join(message.get("body", b"") for message in sent)


async def slow(*events, seconds=0.0):
    for event in events:
        yield event
        await asyncio.sleep(seconds)


def test_events_have_the_headers_that_keep_them_flowing():
    sent = answered(EventStream(slow(data_event({"text": "schön\n"}))))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert headers["content-type"].startswith("text/event-stream")
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
    assert "content-length" not in headers
    assert body_of(sent) == 'data: {"text":"schön\\n"}\n\n'.encode()
    assert not sent[-1]["more_body"]


def test_a_comment_comes_where_nothing_else_does():
    body = body_of(answered(EventStream(slow(b"data: 1\n\n", seconds=1), ping_s=0.02)))
    assert body.startswith(b"data: 1\n\n: ping\n\n")


def failing(error):
    async def events():
        yield b"data: 1\n\n"
        raise error

    return events()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ApiError(503, "the server has ended"), "unavailable_error", "has ended"),
        (GenerationError("5 of 9 logits are NaN"), "server_error", "NaN"),
        (ZeroDivisionError("secret"), "server_error", "its log says why"),
    ],
)
def test_an_error_behind_the_first_event_is_the_last_event(error, kind, words):
    sent = answered(EventStream(failing(error)))
    first, last, rest = body_of(sent).split(b"\n\n")
    assert (first, rest) == (b"data: 1", b"")
    found = json.loads(last.removeprefix(b"data: "))["error"]
    assert found["type"] == kind
    assert words in found["message"]
    assert "secret" not in found["message"]
    assert not sent[-1]["more_body"]


def test_an_error_before_the_first_event_is_no_stream():
    async def events():
        raise ApiError(400, "no")
        yield

    with pytest.raises(ApiError, match="no"):
        answered(EventStream(events()))


@pytest.mark.parametrize("begins", [False, True])
def test_a_client_that_leaves_closes_the_generator(begins):
    closed = []

    async def events():
        try:
            if begins:
                yield b"data: 1\n\n"
            await asyncio.sleep(3600)
            yield b"data: 2\n\n"
        finally:
            closed.append(True)

    sent = answered(EventStream(events()), leaves_after=0.05)
    assert closed == [True]
    assert body_of(sent) == (b"data: 1\n\n" if begins else b"")


def test_work_for_nobody_is_cancelled():
    ended = []

    async def work():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    async def leaving():
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    with pytest.raises(ApiError, match="gone"):
        asyncio.run(unless_gone(leaving, work()))
    assert ended == [True]


def test_what_is_no_text_does_not_break_a_stream():
    assert data_event({"text": "\ud800"}) == b'data: {"text":"?"}\n\n'
