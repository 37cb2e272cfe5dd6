"""`profile` in the four dialects: the same masked text as from Python, and names that are not known."""

import base64
import io

import httpx2 as httpx
import numpy as np
import pytest

import araio
from araio.testing.profiles import profile_of

KEEP = [6, 7, 14, 15, 22, 23, 30, 31]  # as few as the router can do with: other answers
QUESTION = "What is 47 + 38 - 12?"
MESSAGES = [{"role": "user", "content": QUESTION}]
TOKENS = 60

# Where each dialect is asked, how, and where its answer's text and receipt lie.
ASKS = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": TOKENS},
    "/v1/completions": {"prompt": "Once upon a time", "max_tokens": TOKENS},
    "/v1/responses": {"input": QUESTION, "max_output_tokens": TOKENS},
    "/v1/messages": {"model": "pocket", "messages": MESSAGES, "max_tokens": TOKENS},
}


@pytest.fixture(scope="module")
def profile(pocket):
    return profile_of(pocket.config, KEEP, pocket.fingerprint)


@pytest.fixture
def client(start_live, pocket, profile):
    """Of a server that was given two profiles."""
    every = profile_of(pocket.config, range(32), pocket.fingerprint, name="every")
    live = start_live(araio.load("pocket", threads=1, profile=[profile, every]))
    with httpx.Client(base_url=live.url, timeout=120) as client:
        yield client


def text_of(path, document):
    match path:
        case "/v1/chat/completions":
            message = document["choices"][0]["message"]
            return (message.get("reasoning_content") or "") + (message["content"] or "")
        case "/v1/completions":
            return document["choices"][0]["text"]
        case "/v1/responses":
            parts = [part for item in document["output"] for part in item["content"]]
            return "".join(part["text"] for part in parts)
    return "".join(block.get("thinking", "") + block.get("text", "") for block in document["content"])


def test_every_dialect_answers_with_the_experts_of_a_profile(client, pocket, profile):
    in_chat = pocket.chat(QUESTION, seed=0, max_tokens=TOKENS, profile=profile)
    in_text = pocket.complete("Once upon a time", seed=0, max_tokens=TOKENS, profile=profile)
    for path, body in ASKS.items():
        expected = in_text if path == "/v1/completions" else in_chat
        masked = client.post(path, json={**body, "seed": 0, "profile": "math"}).json()
        assert text_of(path, masked) == expected.reasoning + expected.content
        assert masked["usage"]["araio"]["mask"] == "math"
        plain, every = (
            client.post(path, json={**body, "seed": 0, **more}).json() for more in ({}, {"profile": "every"})
        )
        assert text_of(path, plain) == text_of(path, every) != text_of(path, masked)
        assert plain["usage"]["araio"]["mask"] is None


@pytest.mark.parametrize("stream", [False, True])
def test_a_name_that_is_not_known_is_refused_with_those_that_are(client, stream):
    for path, body in ASKS.items():
        reply = client.post(path, json={**body, "profile": "code", "stream": stream})
        assert reply.status_code == 400
        assert "math, every" in reply.json()["error"]["message"]
        assert reply.json()["error"]["param"] == "profile"


def test_models_lists_what_may_be_asked_for(client, profile):
    (card,) = client.get("/v1/models").json()["data"]
    math, every = card["araio"]["profiles"]
    assert math == {"name": "math", "id": profile.id, "experts": 40, "is_default": False}
    assert every["name"] == "every"


def test_answers_to_one_prompt_have_their_mask_too(client, pocket, profile):
    asked = {"messages": MESSAGES, "max_tokens": TOKENS, "seed": 0, "n": 2, "profile": "math"}
    choices = client.post("/v1/chat/completions", json=asked).json()["choices"]
    for seed, choice in enumerate(choices):
        alone = pocket.chat(QUESTION, seed=seed, max_tokens=TOKENS, profile=profile)
        assert (choice["message"].get("reasoning_content") or "") == alone.reasoning


def test_routes_that_are_told_are_those_that_the_mask_leaves(client):
    asked = {"prompt": "Once upon a time", "max_tokens": 8, "return_routed_experts": True, "profile": "math"}
    (choice,) = client.post("/v1/completions", json=asked).json()["choices"]
    experts = np.load(io.BytesIO(base64.b64decode(choice["routed_experts"])))
    assert set(experts.ravel().tolist()) <= set(KEEP)


def test_a_server_without_profiles_says_so(http):
    assert http.get("/v1/models").json()["data"][0]["araio"]["profiles"] == []
    reply = http.post("/v1/completions", json={**ASKS["/v1/completions"], "profile": "math"})
    assert reply.status_code == 400
    assert "was given none" in reply.json()["error"]["message"]
