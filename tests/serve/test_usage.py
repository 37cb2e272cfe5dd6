"""What stands under `usage.araio`: the receipt, under its own names and under those of servers."""

from types import SimpleNamespace

import pytest

from araio.costs.work import StreamedWork
from araio.serve.usage import receipt_of

MESSAGES = [{"role": "user", "content": "What is 47 + 38 - 12?"}]
ASKS = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 4},
    "/v1/completions": {"prompt": "a", "max_tokens": 4},
    "/v1/responses": {"input": "a", "max_output_tokens": 4},
    "/v1/messages": {"model": "pocket", "messages": MESSAGES, "max_tokens": 4},
}
NAMES = [
    "flops",
    "weight_bytes_read",
    "experts_loaded",
    "cache_hit_rate",
    "joules",
    "joules_method",
    "gco2e",
    "cost",
]


@pytest.mark.parametrize("path", ASKS)
def test_every_dialect_has_both_names_of_what_an_answer_took(http, path):
    receipt = http.post(path, json=ASKS[path]).json()["usage"]["araio"]
    assert set(NAMES) <= set(receipt)
    assert 0 < receipt["weight_bytes_read"] < receipt["memory_bytes"], "which has the cache, too"
    assert receipt["gco2e"] == receipt["grams_co2e"] > 0
    assert receipt["cost"] == receipt["money"]
    assert (receipt["experts_loaded"], receipt["cache_hit_rate"]) == (0, None), "all are in memory"


def test_experts_from_disk_are_told(make_receipt):
    streamed = StreamedWork(pinned=1, cached=4, prefetched=2, missed=3)
    document = receipt_of(SimpleNamespace(receipt=make_receipt(streamed=streamed)))
    assert document["experts_loaded"] == 5
    assert document["cache_hit_rate"] == document["expert_hits"] == 0.7


def test_each_of_several_answers_has_its_own(http):
    body = {**ASKS["/v1/chat/completions"], "n": 2}
    first, second = http.post("/v1/chat/completions", json=body).json()["usage"]["araio"]["choices"]
    assert set(NAMES) <= set(first) & set(second)
