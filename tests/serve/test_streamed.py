"""A server whose experts lie on disk: the same text, counted reads, damage that hurts only who needs it."""

import re

import httpx2 as httpx
import numpy as np
import pytest

import araio
from araio.formats.safetensors import SafetensorsFile
from araio.formats.store_layout import EXPERTS_TENSOR, StoreCodecs, expert_file
from araio.weights import load
from araio.weights.convert import convert
from araio.weights.locate import locate
from araio.weights.machine_memory import MachineMemory

QUESTION = {"messages": [{"role": "user", "content": "What is 47 + 38 - 12?"}], "seed": 0}
LAYER = 1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streamed") / "pocket-q4"
    convert(locate("pocket"), folder, StoreCodecs("q4", "q8", "q8"))
    return folder


@pytest.fixture(scope="module")
def resident(store):
    return araio.load(store, threads=1)


@pytest.fixture
def little(store, monkeypatch):
    """Memory with places for a part of the experts, in a process that counts as of one size."""
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20))
    budget = araio.load(store, threads=1, cache_tokens=4096).budget
    return (budget.smallest + budget.whole) // 2


@pytest.fixture
def in_little(store, little):
    """The store in so much memory."""
    model = araio.load(store, threads=1, ram=little, cache_tokens=4096)
    assert model.experts is not None
    return model


def ask(live, body):
    with httpx.Client(base_url=live.url, timeout=60) as client:
        return client.post("/v1/chat/completions", json=body)


def complete(live, ids):
    with httpx.Client(base_url=live.url, timeout=60) as client:
        return client.post("/v1/completions", json={"prompt": ids, "max_tokens": 1, "temperature": 0})


def test_experts_from_disk_give_the_text_of_those_in_memory(in_little, resident, start_live):
    live = start_live(in_little)
    answer = ask(live, QUESTION).json()
    assert (
        answer["choices"][0]["message"]["content"] == resident.chat("What is 47 + 38 - 12?", seed=0).content
    )
    experts = answer["usage"]["araio"]["experts"]
    assert experts["missed"] > 0
    metrics = httpx.get(f"{live.url}/metrics", timeout=60).text
    missed = re.search(r'^araio_experts_total\{.*outcome="missed".*\} (\S+)$', metrics, re.MULTILINE)
    assert float(missed[1]) >= experts["missed"]
    by_layer = {
        outcome: [
            float(value)
            for value in re.findall(
                rf'^araio_layer_experts_total\{{.*outcome="{outcome}"\}} (\S+)$', metrics, re.MULTILINE
            )
        ]
        for outcome in ("hit", "missed")
    }
    assert len(by_layer["hit"]) == len(by_layer["missed"]) == len(in_little.config.moe_layers)
    assert sum(by_layer["missed"]) == float(missed[1])
    assert sum(by_layer["hit"]) > 0
    model = httpx.get(f"{live.url}/v1/models", timeout=60).json()["data"][0]
    assert model["araio"]["conversations"] is False, "pocket in fewer bits is pocket"
    assert model["max_model_len"] == 4096


def test_a_damaged_expert_is_told_to_who_needs_it_and_others_are_answered(
    little, damaged, in_little, store, resident, start_live, caplog
):
    expert, needing, other = damaged
    live = start_live(in_little)
    failed = complete(live, needing)
    assert failed.status_code == 500
    assert failed.json()["error"]["code"] == "weights_unreadable"
    assert str(store) not in failed.text
    assert f"expert {expert} of layer {LAYER} could not be read: {store / expert_file(LAYER)}" in caplog.text
    answered = complete(live, other)
    assert answered.status_code == 200
    assert (
        answered.json()["choices"][0]["text"] == resident.complete(other, max_tokens=1, temperature=0).content
    )


@pytest.fixture
def damaged(store, resident):
    """Flips a bit of an expert that one prompt of a token uses and another does not; all three.

    Before the server loads it, for the experts that were worth most in an earlier run are read at once.
    """
    prompts = [[token] for token in range(100, 160)]
    uses = {prompt[0]: set(resident.route(prompt)[0][0, 0].tolist()) for prompt in prompts}
    expert = next(iter(uses[prompts[0][0]]))
    other = next([token] for token, used in uses.items() if expert not in used)
    file = SafetensorsFile(store / expert_file(LAYER))
    record_bytes = file[EXPERTS_TENSOR].shape[1]
    at = file[EXPERTS_TENSOR].begin + expert * record_bytes + 100
    file.close()
    raw = np.memmap(store / expert_file(LAYER), np.uint8, "r+")
    raw[at] ^= 16
    raw.flush()
    return expert, prompts[0], other
