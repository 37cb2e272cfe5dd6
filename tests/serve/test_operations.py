"""Routes beside the answers."""

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


def test_more_than_the_queue_holds_is_told_to_come_again(start_live):
    import httpx2 as httpx

    live = start_live(queue=1, max_batch=1)
    with httpx.Client(base_url=live.url) as http:
        reply = http.post("/v1/completions", json={"prompt": "a", "n": 3, "max_tokens": 2})
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) > 0
        assert reply.json()["error"]["code"] == "queue_full"
        assert http.post("/v1/completions", json={"prompt": "a", "n": 2, "max_tokens": 2}).status_code == 200
