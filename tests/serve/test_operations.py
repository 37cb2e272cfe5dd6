"""Routes beside the answers."""

import json

import httpx2 as httpx

import araio
from araio.testing.waiting import eventually


def test_what_is_served(http, client):
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/ready").status_code == 200
    assert http.get("/version").json() == {"version": araio.__version__}
    (card,) = client.models.list().data
    assert card.id == "pocket"
    assert client.models.retrieve("pocket") == card
    assert card.max_model_len == 131_072
    assert card.araio["conversations"] is False
    assert card.araio["params_active"] < card.araio["params_total"]
    assert len(card.araio["layers"]) == 5
    assert http.get("/v1/models/another").status_code == 404


def test_limits_are_told(http, live):
    limits = http.get("/v1/limits").json()
    assert limits["n"] == live.service.settings.n == 8
    assert limits["body_bytes"] == 8 << 20
    assert isinstance(limits["body_bytes"], int), "a count, not 8388608.0"


def test_more_than_the_queue_holds_is_told_to_come_again(start_live):
    live = start_live(queue=1, max_batch=1)
    endless = {"prompt": "a", "n": 2, "max_tokens": 50_000, "logit_bias": {"1": -100}, "stream": True}
    short = {"prompt": "a", "n": 2, "max_tokens": 2}
    with httpx.Client(base_url=live.url, timeout=60) as http:
        assert http.post("/v1/completions", json={**short, "n": 3}).json()["error"]["param"] == "n"
        with http.stream("POST", "/v1/completions", json=endless) as stream:
            lines = stream.iter_lines()
            next(lines)
            reply = http.post("/v1/completions", json=short)
            assert reply.status_code == 503
            assert int(reply.headers["retry-after"]) > 0
            assert reply.json()["error"]["code"] == "queue_full"
        eventually(lambda: live.service.pending == 0)
        assert http.post("/v1/completions", json=short).status_code == 200


def test_limits_are_whole_where_they_count(http):
    limits = http.get("/v1/limits").json()
    assert isinstance(limits["n"], int)
    assert isinstance(limits["body_bytes"], int)
    assert isinstance(limits["drain_s"], int | float)


def test_whatever_can_be_read_can_be_asked_for_by_its_head(http):
    for path in ("/health", "/ready", "/v1/models", "/metrics", "/"):
        whole, head = http.get(path), http.head(path)
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert http.head("/v1/chat/completions").status_code == 405


def test_a_slash_too_many_is_another_path(http):
    for reply in (
        http.get("/health/", follow_redirects=False),
        http.post("/v1/chat/completions/", json={}, follow_redirects=False),
    ):
        assert reply.status_code == 404
        assert reply.json()["error"].keys() == {"message", "type", "param", "code"}


def test_a_cache_that_is_smaller_than_the_context_is_what_there_is_room_for(start_live):
    live = start_live(araio.load("pocket", threads=1, cache_tokens=300))
    with httpx.Client(base_url=live.url, timeout=60) as http:
        room = http.get("/v1/models").json()["data"][0]["max_model_len"]
        assert room == 384, "whole pages of 128"
        assert http.post("/tokenize", json={"prompt": "a"}).json()["max_model_len"] == room
        for path, name, body in (
            ("/v1/chat/completions", "max_tokens", {"messages": [{"role": "user", "content": "a"}]}),
            ("/v1/completions", "max_tokens", {"prompt": "a"}),
            ("/v1/responses", "max_output_tokens", {"input": "a"}),
        ):
            error = http.post(path, json={**body, name: room + 1}).json()["error"]
            assert error["param"] == name
            assert "at most 384 tokens together" in error["message"]
            assert http.post(path, json={**body, name: room}).status_code == 200
        error = http.post("/v1/completions", json={"prompt": [5] * 500}).json()["error"]
        assert (error["code"], error["type"]) == ("cache_full", "exceed_context_size_error")
        assert (error["n_prompt_tokens"], error["n_ctx"]) == (500, room)
        text = "word " * 500
        for path, param, body in (
            ("/v1/chat/completions", "messages", {"messages": [{"role": "user", "content": text}]}),
            ("/v1/completions", "prompt", {"prompt": text}),
            ("/v1/responses", "input", {"input": text}),
            ("/v1/messages", "messages", {"messages": [{"role": "user", "content": text}], "max_tokens": 9}),
        ):
            error = http.post(path, json={"model": "pocket", **body}).json()["error"]
            assert (error["code"], error["param"]) == ("cache_full", param)


ENDLESS = {"prompt": "a", "max_tokens": 50_000, "logit_bias": {"1": -100}, "stream": True}


def test_nobody_controls_or_records_what_another_key_has_begun(start_live):
    live = start_live(keys=("first-key", "second-key"))
    clients = [
        httpx.Client(base_url=live.url, timeout=60, headers={"x-api-key": key})
        for key in ("first-key", "second-key")
    ]
    with clients[0] as mine, clients[1] as other:
        with mine.stream("POST", "/v1/completions", json=ENDLESS) as stream:
            lines = stream.iter_lines()
            answer_id = json.loads(next(lines).removeprefix("data: "))["id"]
            control = {"id": answer_id, "action": "cancel"}
            reply = other.post("/v1/chat/completions/control", json=control)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "answer_not_found")
            unknown = other.post("/v1/chat/completions/control", json={**control, "id": "cmpl-1"})
            assert (
                unknown.json()["error"]["message"].replace("cmpl-1", answer_id)
                == (reply.json()["error"]["message"])
            ), "nothing tells an answer of somebody else from none"
            assert mine.post("/v1/chat/completions/control", json=control).json()["done"]
        assert mine.post("/start_expert_distribution_record").json()["is_recording"]
        assert not other.post("/dump_expert_distribution_record").json()["is_recording"]
        assert other.post("/stop_expert_distribution_record").status_code == 400
        other.post("/start_expert_distribution_record")
        mine.post("/v1/completions", json={"prompt": "a", "max_tokens": 3})
        other.post("/start_expert_distribution_record")
        assert other.post("/stop_expert_distribution_record").json()["tokens"] == 0
        assert mine.post("/stop_expert_distribution_record").json()["tokens"] > 0


def test_the_document_says_how_a_key_is_given_where_one_is_needed(start_live, http):
    assert "securitySchemes" not in http.get("/openapi.json").json()["components"]
    live = start_live(keys=("first-key",))
    headers = {"x-api-key": "first-key"}
    document = httpx.get(f"{live.url}/openapi.json", headers=headers, timeout=60).json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"] == {"type": "http", "scheme": "bearer"}
    assert schemes["x-api-key"] == {"type": "apiKey", "in": "header", "name": "x-api-key"}
    assert document["security"] == [{"bearer": []}, {"x-api-key": []}], "either of them"
    assert document["paths"]["/health"]["get"]["security"] == []
    assert document["components"]["schemas"]["ChatRequest"]
