"""What Prometheus reads: its format, the names, and that the numbers follow what happened."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from araio.engine.watch import EngineState
from araio.serve.metrics import Metrics
from araio.testing.waiting import eventually
from araio.weights.counters import StreamCounters

IDLE = EngineState(running=0, waiting=0, free_pages=8, total_pages=8, prefix_queries=0, prefix_hits=0)
QUESTION = [{"role": "user", "content": "What is 47 + 38 - 12?"}]


def read(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and its labels, without the model's."""
    return {
        (sample.name, frozenset(sample.labels.items()) - {("model_name", "pocket")}): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def plain(text: str) -> dict[str, float]:
    """Those that have no other label."""
    return {name: value for (name, labels), value in read(text).items() if not labels}


def scrape(server: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return read(httpx.get(f"{server.url}/metrics", timeout=60).text)


def values(server: Any) -> dict[str, float]:
    return plain(httpx.get(f"{server.url}/metrics", timeout=60).text)


def chat(server: Any, **given: Any) -> httpx.Response:
    body = {"messages": QUESTION, "seed": 7, **given}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def test_the_engines_state_is_that_of_the_moment() -> None:
    states = [IDLE, EngineState(3, 2, 2, 8, prefix_queries=90, prefix_hits=64)]
    metrics = Metrics("pocket", lambda: states[-1])
    found = plain(metrics.render().decode())
    assert found["araio:num_requests_running"] == 3
    assert found["araio:num_requests_waiting"] == 2
    assert found["araio:kv_cache_usage_perc"] == 0.75
    assert found["araio:prefix_cache_queries_total"] == 90
    assert found["araio:prefix_cache_hits_total"] == 64
    states.pop()
    assert plain(metrics.render().decode())["araio:num_requests_running"] == 0


def test_streamed_experts_have_the_names_of_their_counters() -> None:
    counters = StreamCounters(
        pinned=1, cached=6, prefetched=2, missed=3, reads=5, read_bytes=4096, wait_s=0.5
    )
    found = read(Metrics("pocket", lambda: IDLE, lambda: counters).render().decode())
    for line, value in counters.samples().items():
        name, _, rest = line.partition("{")
        labels = frozenset({("outcome", rest.split('"')[1])} if rest else ())
        assert found[name, labels] == value
    without = Metrics("pocket", lambda: IDLE).render().decode()
    assert "araio_expert" not in without


def test_layers_tell_how_uneven_they_are_and_experts_nothing() -> None:
    counts = np.array([[5, 5, 5, 5], [20, 0, 0, 0], [0, 0, 0, 0]])
    metrics = Metrics("pocket", lambda: IDLE, layers=lambda: ([1, 2, 5], counts))
    found = read(metrics.render().decode())
    assert found["araio_layer_load_imbalance", frozenset({("layer", "1")})] == 1
    assert found["araio_layer_load_imbalance", frozenset({("layer", "2")})] == 4
    assert not any("expert" in name for name, _ in found)


def test_the_number_of_series_does_not_depend_on_requests() -> None:
    metrics = Metrics("pocket", lambda: IDLE)
    for _ in range(100):
        metrics.started(prompt_tokens=20, max_tokens=100, choices=2)
        metrics.token(0.1, is_first=True)
        metrics.rejected("key_limit")
    series = len(read(metrics.render().decode()))
    for size in range(100):
        metrics.started(prompt_tokens=size, max_tokens=size * 1000 + 1, choices=1)
        metrics.token(size, is_first=False)
    assert len(read(metrics.render().decode())) == series


def test_answers_are_counted(start_live: Callable[..., Any]) -> None:
    server = start_live()
    usages = [chat(server).json()["usage"] for _ in range(2)]
    usages.append(chat(server, max_tokens=5).json()["usage"])
    found, labelled = values(server), scrape(server)
    tokens = sum(usage["completion_tokens"] for usage in usages)
    prompts = sum(usage["prompt_tokens"] for usage in usages)
    assert found["araio:generation_tokens_total"] == tokens
    assert found["araio:prompt_tokens_total"] == prompts
    assert found["araio:prefix_cache_queries_total"] == prompts
    assert labelled["araio:request_success_total", frozenset({("finished_reason", "stop")})] == 2
    assert labelled["araio:request_success_total", frozenset({("finished_reason", "length")})] == 1
    assert found["araio:time_to_first_token_seconds_count"] == 3
    assert found["araio:inter_token_latency_seconds_count"] == tokens - 3
    assert found["araio:e2e_request_latency_seconds_count"] == 3
    assert found["araio:request_generation_tokens_sum"] == tokens
    receipts = [usage["araio"] for usage in usages]
    method = frozenset({("method", receipts[0]["joules_method"])})
    assert labelled["araio_joules_total", method] == pytest.approx(sum(r["joules"] for r in receipts))
    assert found["araio_co2e_grams_total"] == pytest.approx(sum(r["grams_co2e"] for r in receipts))
    assert found["araio_flops_total"] == sum(r["flops"] for r in receipts)
    assert found["araio_memory_read_bytes_total"] == sum(r["memory_bytes"] for r in receipts)


def test_seconds_of_a_request_add_up(start_live: Callable[..., Any]) -> None:
    server = start_live()
    began = time.perf_counter()
    chat(server)
    whole = time.perf_counter() - began
    found = values(server)
    first = found["araio:time_to_first_token_seconds_sum"]
    rest = found["araio:inter_token_latency_seconds_sum"]
    e2e = found["araio:e2e_request_latency_seconds_sum"]
    assert e2e == pytest.approx(first + rest)
    assert 0 < e2e < whole
    # The engine's own seconds begin once its thread has taken the request.
    parts = sum(found[f"araio:request_{part}_time_seconds_sum"] for part in ("queue", "prefill", "decode"))
    assert rest < parts <= e2e * (1 + 1e-9)


def test_requests_that_run_wait_or_leave_are_seen(start_live: Callable[..., Any]) -> None:
    server = start_live(max_batch=1, queue=1)
    streams = [
        httpx.stream(
            "POST",
            f"{server.url}/v1/chat/completions",
            json={
                "messages": QUESTION,
                "stream": True,
                "max_tokens": 100_000,
                "logit_bias": never_ends(server),
            },
            timeout=60,
        )
        for _ in range(2)
    ]
    opened = threading.Event()

    def hold(stream: Any) -> None:
        with stream as answer:
            for _ in answer.iter_raw():
                if opened.is_set():
                    return

    threads = [threading.Thread(target=hold, args=(stream,), daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    eventually(lambda: values(server)["araio:num_requests_waiting"] == 1)
    assert values(server)["araio:num_requests_running"] == 1
    assert values(server)["araio:kv_cache_usage_perc"] > 0
    refused = chat(server)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    key = ("araio:admission_rejections_total", frozenset({("reason", "queue_full")}))
    assert scrape(server)[key] == 1
    opened.set()
    eventually(lambda: values(server)["araio:num_requests_running"] == 0)
    assert values(server)["araio:num_aborted_requests_total"] == 2
    assert values(server)["araio:kv_cache_usage_perc"] == 0


def never_ends(server: Any) -> dict[str, int]:
    """A bias under which no answer ends by itself."""
    return {str(end): -100 for end in server.service.model.config.eos_token_id}


def test_refusals_are_counted_by_their_reason(toy: Callable[..., Any]) -> None:
    server = toy(keys=("first-key",))
    server.get("/ready")
    server.send("GET /health HTTP/1.1", "Host: evil.example")
    assert server.refused == ["invalid_api_key", "host"]


def test_the_names_that_dashboards_for_vllm_look_for(start_live: Callable[..., Any]) -> None:
    server = start_live()
    before = scrape(server)
    chat(server, max_tokens=3)
    found = scrape(server)
    names = {name for name, _ in found}
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "num_preemptions_total",
        "prefix_cache_queries_total",
        "prefix_cache_hits_total",
        "prompt_tokens_total",
        "generation_tokens_total",
        "request_success_total",
        "cache_config_info",
        *(
            f"{histogram}_bucket"
            for histogram in (
                "iteration_tokens_total",
                "request_prompt_tokens",
                "request_generation_tokens",
                "request_params_max_tokens",
                "request_params_n",
                "time_to_first_token_seconds",
                "inter_token_latency_seconds",
                "request_time_per_output_token_seconds",
                "e2e_request_latency_seconds",
                "request_queue_time_seconds",
                "request_inference_time_seconds",
                "request_prefill_time_seconds",
                "request_decode_time_seconds",
            )
        ),
    ):
        assert f"araio:{name}" in names
    key = ("araio:iteration_tokens_total_sum", frozenset())
    assert found[key] - before[key] >= 3
