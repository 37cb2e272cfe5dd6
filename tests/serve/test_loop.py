"""The event loop, which all clients share: what takes long happens beside it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import pytest
from fastapi import FastAPI

from araio.serve import chat, completions, guard
from araio.serve.chat_answer import chat_choice
from araio.serve.completion_choice import completion_choice
from araio.serve.nesting import nesting_failure
from araio.text.tokenizer import Tokenizer

MESSAGES = [{"role": "user", "content": "What is 2 + 3?"}]


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[str]]:
    """Notes the names of the threads in which a function of a module or class is called from now on."""

    def watch(place: object, name: str, function: Callable[..., Any]) -> set[str]:
        found: set[str] = set()

        def noted(*given: Any, **named: Any) -> Any:
            found.add(threading.current_thread().name)
            return function(*given, **named)

        monkeypatch.setattr(place, name, noted)
        return found

    return watch


def of_loop(live: Any) -> str:
    """The name of the thread that the event loop runs in."""
    return live.thread.name


def test_answers_are_put_together_beside_it(
    live: Any, http: httpx.Client, threads: Callable[..., set[str]]
) -> None:
    of_chat = threads(chat, "chat_choice", chat_choice)
    of_text = threads(completions, "completion_choice", completion_choice)
    assert http.post("/v1/chat/completions", json={"messages": MESSAGES, "max_tokens": 2}).status_code == 200
    assert http.post("/v1/completions", json={"prompt": "a", "max_tokens": 2}).status_code == 200
    assert of_chat
    assert of_text
    assert of_loop(live) not in of_chat | of_text


def test_texts_of_tokens_are_told_beside_it(
    live: Any, http: httpx.Client, threads: Callable[..., set[str]]
) -> None:
    decoding = threads(Tokenizer, "decode", Tokenizer.decode)
    http.post("/tokenize", json={"prompt": "What is 2 + 3?", "return_token_strs": True}).raise_for_status()
    assert decoding
    assert of_loop(live) not in decoding


def test_large_bodies_are_looked_at_beside_it(
    live: Any, http: httpx.Client, threads: Callable[..., set[str]]
) -> None:
    looking = threads(guard, "nesting_failure", nesting_failure)
    content = json.dumps({"messages": MESSAGES, "max_tokens": 2, "more": "a" * (1 << 20)})
    headers = {"Content-Type": "application/json"}
    http.post("/v1/chat/completions", content=content, headers=headers).raise_for_status()
    assert looking
    assert of_loop(live) not in looking


def test_the_document_of_the_api_is_made_beside_it(
    start_live: Callable[..., Any], threads: Callable[..., set[str]]
) -> None:
    live = start_live()
    making = threads(FastAPI, "openapi", FastAPI.openapi)
    with httpx.Client(base_url=live.url, timeout=60) as http:
        document = http.get("/openapi.json").json()
        assert http.get("/openapi.json").json() == document
    assert "/v1/chat/completions" in document["paths"]
    assert making
    assert of_loop(live) not in making
