"""The receipt of a request, from counts that are made up."""

from types import SimpleNamespace

import pytest

from araio.costs.rates import Rates
from araio.costs.tariff import default_tariff
from araio.costs.work import StreamedWork, Work
from araio.engine.job import EnergyShare
from araio.engine.receipts import Receipts
from araio.testing.checkpoints import tiny_config

CONFIG = tiny_config("v3")
WORK = Work(7, 3, 2, 30, 40, 50, 28, weight_bytes=1000, expert_bytes=200, cache_bytes=30)
DRAFTS = Work(5, 2, 2, 20, 30, 40, 10, weight_bytes=500, expert_bytes=60, cache_bytes=7)


@pytest.fixture
def job():
    return SimpleNamespace(
        prompt=[1, 2, 3, 4],
        mask=None,
        cached_tokens=2,
        draft_tokens=3,
        accepted_draft_tokens=1,
        work=WORK,
        draft_work=DRAFTS,
        energy=EnergyShare(joules=2_000_000, low=1_000_000, high=4_000_000, idle=500_000),
        queue_s=0.25,
        streamed=None,
    )


def receipt_of(job, idle_watts=1.0):
    meter = SimpleNamespace(method="rapl", idle_watts=idle_watts)
    return Receipts("tiny", CONFIG, meter, default_tariff("tiny")).receipt(job, 4, 9, 1.0, 2.0)


def test_the_work_of_drafts_counts(job):
    receipt, main, module = receipt_of(job), Rates.of_model(CONFIG), Rates.of_mtp(CONFIG)
    assert receipt.flops == main.flops(WORK) + module.flops(DRAFTS) > main.flops(WORK)
    assert receipt.dense_flops == main.dense_flops(WORK) + module.dense_flops(DRAFTS)
    assert receipt.memory_bytes == 1230 + 567
    assert receipt.weight_bytes == 1200 + 560
    assert (receipt.draft_tokens, receipt.accepted_draft_tokens) == (3, 1)


def test_seconds_in_line_are_none_of_the_prompt(job):
    receipt = receipt_of(job)
    assert (receipt.queue_s, receipt.prefill_s, receipt.decode_s) == (0.25, 0.75, 2.0)
    assert (receipt.reasoning_tokens, receipt.answer_tokens) == (4, 5)


def test_idling_is_unknown_where_nobody_observed_it(job):
    joules = receipt_of(job).joules
    assert (joules.best, joules.low, joules.high, joules.idle, joules.method) == (2.0, 1.0, 4.0, 0.5, "rapl")
    assert receipt_of(job, idle_watts=None).joules.idle is None


def test_what_came_from_disk_is_the_requests_own(job):
    receipt = receipt_of(job)
    assert (receipt.disk_bytes, receipt.expert_hits) == (0, None)
    job.streamed = StreamedWork(1, 2, 3, 4, disk_bytes=500, disk_ns=100)
    receipt = receipt_of(job)
    assert (receipt.disk_bytes, receipt.expert_hits) == (500, 0.6)
    assert receipt.to_json()["experts"] == {
        "pinned": 1,
        "cached": 2,
        "prefetched": 3,
        "missed": 4,
        "disk_bytes_per_s": 5e9,
    }
