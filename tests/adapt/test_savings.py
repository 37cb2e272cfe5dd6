"""What is saved: bytes counted by hand, and reads with a profile pinned against the same places without."""

import pytest

from araio.adapt.answers import ask
from araio.adapt.calibration import calibrate
from araio.adapt.fit import fit
from araio.adapt.savings import savings
from araio.adapt.select import Target
from araio.eval.prompts import read_prompts


@pytest.fixture(scope="module")
def half(pocket):
    seen = calibrate(pocket, read_prompts(["task:chain"], n=6), max_tokens=100)
    return fit(seen, pocket.config, Target(keep=0.5), name="half", equal_groups=True).profile


@pytest.fixture(scope="module")
def asked(pocket):
    prompts = read_prompts(["task:chain"], n=4, split="test")
    return ask(pocket, prompts, temperature=0, repetition_penalty=1, max_tokens=60)


@pytest.fixture(scope="module")
def saved(pocket, half, asked):
    return savings(pocket, half, asked)


def test_text_is_the_same_with_experts_on_disk_pinned_or_not(saved):
    assert saved.pinned.is_same_text
    assert saved.unpinned.is_same_text
    assert saved.pinned.tokens == saved.unpinned.tokens > 0


def test_pinned_experts_of_the_domain_are_hit(saved, half, pocket):
    assert saved.places == half.experts + 2 * pocket.config.num_experts_per_tok
    assert 0.5 < saved.pinned.hit_share <= 1
    assert saved.pinned.bytes_per_token > 0
    assert saved.pinned.tok_per_s > 0
    assert saved.pinned.joules_per_token > 0


def test_the_bytes_of_experts_are_halved(saved, half, pocket):
    expert = pocket.network.held.expert
    assert saved.whole_bytes - saved.kept_bytes == expert * half.experts
    assert saved.kept_bytes - expert * half.experts == pocket.budget.dense
    assert 0.5 * saved.whole_disk_bytes < saved.kept_disk_bytes < 0.7 * saved.whole_disk_bytes


def test_what_the_machine_cannot_hold_is_not_tried(pocket, half, asked, monkeypatch):
    class Little:
        allowed = 1000

    monkeypatch.setattr("araio.adapt.savings.machine_memory", Little)
    found = savings(pocket, half, asked)
    assert (found.pinned, found.unpinned) == (None, None)
    assert "GiB beside the model" in found.reason
    assert found.to_json()["pinned"] is None
