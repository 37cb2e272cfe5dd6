"""Routes beside the answers."""

import time

import httpx2 as httpx

import araio


def test_what_is_served(http, client):
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/ready").status_code == 200
    assert http.get("/version").json() == {"version": araio.__version__}
    (card,) = client.models.list().data
    assert card.id == "pocket"
    assert client.models.retrieve("pocket") == card
    assert card.max_model_len == 131_072
    assert card.araio["parameters_active"] < card.araio["parameters_total"]
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
        until = time.monotonic() + 5
        while live.service.pending and time.monotonic() < until:
            time.sleep(0.01)
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
