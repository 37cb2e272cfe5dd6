"""The receipt: its JSON, its line, and the whole, in which nothing modelled looks measured."""

import json
from dataclasses import replace

import pytest

from araio.costs.receipt import Joules
from araio.costs.receipt_text import energy_text, money_text, quantity_text, receipt_line, receipt_text
from araio.costs.tariff import choose_tariff
from araio.costs.work import StreamedWork

COUNTED = Joules(best=3.6, low=3.6, high=3.6, idle=None, method="rapl")
SENSED = Joules(best=3.6, low=3.4, high=3.8, idle=1.0, method="nvml")


def test_json_has_every_number_with_its_origin(make_receipt):
    document = make_receipt().to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["tokens"] == {"prompt": 20, "cached": 0, "reasoning": 9, "answer": 3}
    assert (document["flops"], document["flops_dense"]) == (128_000_000, 512_000_000)
    assert (document["disk_bytes"], document["expert_hits"], document["experts"]) == (0, None, None)
    assert document["tok_per_s"] == pytest.approx(100)
    assert [document[f"joules{end}"] for end in ("", "_low", "_high", "_method")] == [
        3.6,
        1.8,
        7.2,
        "model:tdp",
    ]
    assert document["idle_joules"] == 1.0
    assert document["grid"]["country"] == "Germany"
    assert document["grid"]["year"] > 2000
    assert document["grid"]["source"]
    assert document["grams_co2e"] == pytest.approx(1e-6 * document["grid"]["grams_per_kwh"])
    assert document["money"] is document["prices"] is None


def test_money_is_that_of_the_stated_prices(make_receipt):
    receipt = make_receipt(cached_tokens=10, tariff=choose_tariff("pocket", "DEU", "deepseek-r1"))
    document = receipt.to_json()
    assert document["money"] == pytest.approx((10 * 0.55 + 10 * 0.14 + 12 * 2.19) / 1e6)
    assert document["prices"]["currency"] == "USD"
    assert document["prices"]["date"] == "2025-01-20"
    assert receipt_line(receipt).endswith(" · 0.000033 USD")
    assert "0.000033 USD at the prices of deepseek-r1 of 2025-01-20; https://" in receipt_text(receipt)


def test_the_line(make_receipt):
    assert receipt_line(make_receipt()) == (
        "thought 9 tokens · answered 3 tokens · 0.3 s · 100 tok/s · "
        "25.0% of 8.00M weights active per token · ~3.60 J (1.80 J to 7.20 J) · ~381 µg CO2e"
    )
    short = make_receipt(reasoning_tokens=0, answer_tokens=1, decode_s=0.0, joules=COUNTED)
    assert receipt_line(short) == (
        "answered 1 token · 0.2 s · 25.0% of 8.00M weights active per token · 3.60 J · 381 µg CO2e"
    )


def test_the_whole_begins_with_a_bar_of_the_active_share(make_receipt):
    bar, *lines = receipt_text(make_receipt()).splitlines()
    assert bar == "█" * 10 + "░" * 30 + " 2.00M of 8.00M parameters active per token (25.0%)"
    labels = [line.split()[0] for line in lines]
    assert labels == ["prompt", "generated", "seconds", "compute", "read", "energy", "carbon"]
    assert "4.0 times as many in a dense model of this size" in lines[3]
    tiny_share = make_receipt(parameters_active=1)
    assert receipt_text(tiny_share).startswith("█░")


def test_the_whole_tells_of_drafts_and_of_disk_where_there_are_any(make_receipt):
    streamed = StreamedWork(
        pinned=10, cached=40, prefetched=20, missed=30, disk_bytes=10**9, disk_ns=10**9 // 2
    )
    receipt = make_receipt(draft_tokens=5, accepted_draft_tokens=4, streamed=streamed)
    text = receipt_text(receipt)
    assert "4 of 5 drafts right" in text
    assert "1.00 GB of disk" in text
    assert "100 asked for: 10.0% pinned, 40.0% cached, 20.0% read ahead, 30.0% missed" in text
    assert "the disk gave 2.00 GB/s while busy" in text
    assert "31.2 MB a token from disk at 2.00 GB/s, 70% of experts in memory" in receipt_line(receipt)
    assert "none of disk" in receipt_text(make_receipt())


def test_an_approximation_is_on_every_form_of_the_receipt(make_receipt):
    receipt = make_receipt(approximation="top-4")
    assert receipt.to_json()["approximation"] == "top-4"
    assert receipt_line(receipt).endswith(" · approximate (top-4)")
    assert (
        receipt_text(receipt).splitlines()[-1] == "approximate by top-4; without it the answer may be another"
    )
    assert make_receipt().to_json()["approximation"] is None
    assert "approximate" not in receipt_line(make_receipt()) + receipt_text(make_receipt())


@pytest.mark.parametrize(
    ("joules", "text", "how"),
    [
        (COUNTED, "3.60 J", "measured (rapl), idling not known"),
        (SENSED, "3.60 J ± 200 mJ", "measured (nvml), 1.00 J of it idling"),
        (replace(SENSED, method="rapl+nvml"), "3.60 J ± 200 mJ", "measured (rapl+nvml)"),
        (replace(SENSED, method="model:tdp"), "~3.60 J (3.40 J to 3.80 J)", "modelled (tdp)"),
    ],
)
def test_measured_and_modelled_never_look_alike(make_receipt, joules, text, how):
    assert energy_text(joules) == text
    whole, line = receipt_text(make_receipt(joules=joules)), receipt_line(make_receipt(joules=joules))
    assert how in whole
    assert ("~" in whole, "~" in line) == (joules.is_modelled,) * 2


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.00"), (3.28e-5, "0.000033"), (0.123, "0.12"), (1.5, "1.50"), (1234.5, "1,234.50")],
)
def test_money_is_written_out(amount, text):
    assert money_text(amount) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 J"),
        (999.4, "999 J"),
        (999.6, "1.00 kJ"),
        (12.34, "12.3 J"),
        (1.005e12, "1.00 TJ"),
        (0.0004567, "457 µJ"),
        (3e-9, "3e-09 J"),
        (5e18, "5000 PJ"),
    ],
)
def test_quantities_have_three_digits(value, text):
    assert quantity_text(value, "J") == text
