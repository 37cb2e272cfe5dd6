"""The experts at work, over all requests."""

import pytest


def ask(http, number):
    body = {"messages": [{"role": "user", "content": f"What is {number} + 3?"}], "max_tokens": 20}
    return http.post("/v1/chat/completions", json=body).json()["usage"]


@pytest.fixture
def idle(http):
    """Behind whatever other tests have left."""
    return http.get("/v1/experts").json()


def test_every_token_is_counted_in_every_layer(http, live, idle):
    usage = ask(http, 812)
    found = http.get("/v1/experts").json()
    config = live.service.model.config
    assert found["layers"] == list(config.moe_layers)
    assert (found["n_experts"], found["top_k"]) == (config.n_routed_experts, config.num_experts_per_tok)
    # The last token is given out and not run.
    ran = usage["prompt_cache_miss_tokens"] + usage["completion_tokens"] - 1
    assert found["tokens"] - idle["tokens"] >= ran
    for layer, before in zip(found["counts"], idle["counts"], strict=True):
        assert sum(layer) - sum(before) == (found["tokens"] - idle["tokens"]) * found["top_k"]
    assert sum(map(sum, found["recent"])) <= sum(map(sum, found["counts"]))
    assert found["domains"] is None


def test_a_recording_is_a_stretch_of_time(http, idle):
    assert http.post("/start_expert_distribution_record").json()["tokens"] == 0
    ask(http, 813)
    so_far = http.post("/dump_expert_distribution_record").json()
    assert so_far["is_recording"]
    assert so_far["tokens"] > 0
    stopped = http.post("/stop_expert_distribution_record").json()
    assert not stopped["is_recording"]
    ask(http, 814)
    assert http.post("/dump_expert_distribution_record").json() == stopped
    assert http.post("/stop_expert_distribution_record").status_code == 400


def test_the_load_of_layers_is_a_metric(http, live):
    ask(http, 815)
    lines = http.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("araio_layer_load_imbalance{")]
    assert len(found) == len(live.service.model.config.moe_layers)
