"""`Model` over a tiny random checkpoint, and over a scripted network whose words are known."""

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import araio
from araio.api import Model
from araio.costs.work import HeldBytes
from araio.errors import (
    BudgetError,
    CheckpointError,
    CostError,
    DiskError,
    ModelNotFoundError,
    RequestError,
    TextError,
)
from araio.nn.kv_cache import LatentPool
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.text.chat import ChatFormat
from araio.text.tokenizer import Span, Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("api") / "tiny"
    write_tiny_checkpoint(path, "v3")
    return path


@pytest.fixture(scope="module")
def model(folder):
    return araio.load(folder)


def control_ids(tokenizer, text):
    return tokenizer.encode_spans([Span(text, is_trusted=True)])


def scripted(folder, text):
    """A model that answers every prompt with `text`, then ends."""
    tokenizer = Tokenizer.from_folder(folder)
    script = [*control_ids(tokenizer, text), tokenizer.eos_id]
    config = araio.ModelConfig.from_file(folder)
    state = SimpleNamespace(at=0)

    def logits(hidden):
        row = np.zeros((1, config.vocab_size), np.float32)
        row[0, script[state.at]] = 9
        state.at += 1
        return row

    network = SimpleNamespace(
        config=config,
        mtp=None,
        new_pool=lambda tokens, cache_type: LatentPool(config.latent_dim, tokens, cache_type),
        held=HeldBytes(dense=1000, head=100, row=10, expert=50, draft=0),
        step=lambda segments, *_: np.zeros((sum(len(segment.ids) for segment in segments), 4)),
        logits=logits,
    )
    budget = SimpleNamespace(chunk=512, cache_tokens=1024)
    loaded = SimpleNamespace(network=network, budget=budget, experts=None, adapter=None)
    return Model("scripted", loaded, tokenizer, ChatFormat.from_folder(folder, tokenizer), {})


def test_reasoning_and_answer_come_apart(folder):
    answer = scripted(folder, "47 + 38 = 85\n85 - 12 = 73\n</think>\n\n73").chat("What is 47 + 38 - 12?")
    assert answer.reasoning == "47 + 38 = 85\n85 - 12 = 73"
    assert answer.content == "73"
    assert answer.finish_reason == "stop"


def test_the_stop_ids_of_generation_config_end_an_answer(tmp_path):
    write_tiny_checkpoint(tmp_path, "v3")
    asked = {"temperature": 0, "max_tokens": 3, "logprobs": 0}
    free = araio.load(tmp_path).complete("hi", **asked)
    first = free.logprobs[0].id
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [first]}))
    stopped = araio.load(tmp_path).complete("hi", **asked)
    assert (stopped.finish_reason, stopped.content) == ("stop", "")
    assert stopped.usage["completion_tokens"] == 1


def test_tokens_are_counted_by_kind(folder):
    words = scripted(folder, "ab</think>\n\n73")
    counted = {len(control_ids(words.tokenizer, t)) for t in ("ab</think>", "ab</think>73")}
    usage = words.chat("?").usage
    thought = len(control_ids(words.tokenizer, "ab</think>"))
    total = len(control_ids(words.tokenizer, "ab</think>\n\n73")) + 1  # and the end token
    assert counted == {3, 5}
    assert usage["completion_tokens_details"]["reasoning_tokens"] == thought
    assert usage["completion_tokens"] == total
    assert usage["total_tokens"] == usage["prompt_tokens"] + total
    assert 0 < usage["araio"]["parameters_active"] < usage["araio"]["parameters_total"]


def test_a_stream_is_the_answer_in_pieces(folder):
    text = "hé said\n</think>\n\nyés </think> nö"
    events = list(scripted(folder, text).stream("?"))
    *deltas, finish = events
    assert isinstance(finish, araio.Finish)
    reasoning = "".join(d.text for d in deltas if isinstance(d, araio.ReasoningDelta))
    content = "".join(d.text for d in deltas if isinstance(d, araio.ContentDelta))
    assert (reasoning, content) == (finish.answer.reasoning, finish.answer.content)
    # A tag behind the thinking closes nothing, and is no part of the text.
    assert (reasoning, content) == ("hé said", "yés  nö")
    assert all(d.text for d in deltas)


def test_thinking_that_is_cut_off_is_all_reasoning(folder):
    answer = scripted(folder, "hmm </thi" + "x" * 20).chat("?", max_tokens=9)
    assert answer.content == ""
    assert answer.reasoning == "hmm </thi"
    assert answer.finish_reason == "length"
    assert answer.usage["completion_tokens_details"]["reasoning_tokens"] == 9


def test_a_stop_string_ends_the_text(folder):
    answer = scripted(folder, "hm</think>\n\none two three").chat("?", stop=" three")
    assert (answer.content, answer.finish_reason, answer.stop_reason) == ("one two", "stop", " three")


def test_a_completion_knows_no_reasoning(folder):
    answer = scripted(folder, "a</think>b").complete("Once upon a time")
    assert (answer.reasoning, answer.content) == ("", "a</think>b")
    assert answer.usage["prompt_tokens"] == 1 + len(Tokenizer.from_folder(folder).encode("Once upon a time"))


def test_one_seed_gives_one_text(model):
    def ask(seed):
        return model.chat("Hello", seed=seed, temperature=1.0, max_tokens=20).reasoning

    assert ask(1) == ask(1)
    assert ask(1) != ask(2)


def test_threads_that_ask_at_the_same_time_get_what_they_would_get_alone(model):
    def ask(seed):
        return model.chat("Hello", seed=seed, temperature=1.0, max_tokens=20).reasoning

    alone = [ask(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(ask, range(3))) == alone


def test_what_was_asked_before_need_not_be_read_again(folder):
    model = araio.load(folder, speculate="off")  # "auto" may draft for one and not for the other
    question = "word " * 40
    first, second = (model.chat(question, seed=1, max_tokens=5) for _ in range(2))
    assert first.usage["prompt_tokens_details"] == {"cached_tokens": 0}
    assert second.usage["prompt_tokens_details"] == {"cached_tokens": 128}
    assert first.reasoning == second.reasoning


def test_the_checkpoints_own_defaults_are_used_until_overridden(model):
    assert model.generation_defaults == {"temperature": 0.6, "top_p": 0.95}
    greedy = [model.chat("Hello", temperature=0, max_tokens=8).reasoning for _ in range(2)]
    assert greedy[0] == greedy[1]
    assert model.chat("Hello", max_tokens=8, seed=3).reasoning != greedy[0]


def test_logprobs_name_the_tokens(model):
    answer = model.chat("Hello", max_tokens=4, logprobs=2, temperature=0)
    assert len(answer.logprobs) == 4
    for entry in answer.logprobs:
        assert entry.alternatives[0][0] == entry.id
        assert entry.logprob == entry.alternatives[0][2] <= 0
        assert entry.bytes == model.tokenizer.token_bytes(entry.id)
        assert entry.bytes.decode(errors="replace") == entry.text
        assert entry.is_reasoning
    assert model.chat("Hello", max_tokens=4).logprobs is None


def test_the_prompts_own_logprobs_are_those_of_its_logits(model):
    answer = model.complete("hello there you", max_tokens=0, prompt_logprobs=2)
    ids = [model.tokenizer.bos_id, *model.tokenizer.encode("hello there you")]
    first, *others = answer.prompt_logprobs
    assert first is None
    assert [entry.id for entry in others] == ids[1:]
    assert [entry.text for entry in others] == [model.tokenizer.decode([i]) for i in ids[1:]]
    rows = model.logits(ids).astype(float)
    for entry, row in zip(others, rows, strict=False):
        assert entry.logprob == pytest.approx(row[entry.id] - np.log(np.exp(row).sum()))
        assert entry.alternatives[0][0] == row.argmax()
    assert (answer.content, answer.finish_reason) == ("", "length")
    assert answer.usage["completion_tokens"] == 0
    assert answer.timings.prefill_s > 0
    assert answer.timings.tok_per_s is None


def test_logits_of_a_sequence_are_those_of_its_beginnings(model):
    ids = model.tokenizer.encode("hello there you number")
    whole = model.logits(ids)
    assert whole.shape == (len(ids), model.config.vocab_size)
    assert whole.dtype == np.float32
    for end in (1, 4):
        np.testing.assert_allclose(model.logits(ids[:end]), whole[:end], atol=1e-4)


def test_logits_do_not_depend_on_the_chunks(model, monkeypatch):
    ids = model.tokenizer.encode("hello there you number")
    whole, (experts, weights) = model.logits(ids), model.route(ids)
    monkeypatch.setattr("araio.api.model.PREFILL_CHUNK", 3)
    np.testing.assert_allclose(model.logits(ids), whole, atol=1e-4)
    assert (model.route(ids)[0] == experts).all()
    np.testing.assert_allclose(model.route(ids)[1], weights, atol=1e-5)


def test_greedy_text_follows_the_logits(model):
    ids = model.tokenizer.encode("hello")
    answer = model.complete("hello", max_tokens=3, temperature=0, logprobs=0)
    sequence = [model.tokenizer.bos_id, *ids]
    for entry in answer.logprobs:
        assert entry.id == model.logits(sequence)[-1].argmax()
        sequence.append(entry.id)


def test_routes_are_distinct_experts_and_leave_the_hook_as_it_was(model):
    calls = []
    model.network.on_route = lambda *call: calls.append(call)
    ids = model.tokenizer.encode("hello there")
    experts, weights = model.route(ids)
    shape = (len(ids), len(model.config.moe_layers), model.config.num_experts_per_tok)
    assert experts.shape == weights.shape == shape
    assert (experts.dtype, weights.dtype) == (np.int32, np.float32)
    assert all(len(set(row)) == shape[2] for row in experts.reshape(-1, shape[2]).tolist())
    np.testing.assert_allclose(weights.sum(-1), model.config.routed_scaling_factor, rtol=1e-5)
    assert not calls
    model.logits(ids)
    assert calls
    model.network.on_route = None


def test_a_dense_model_routes_nothing(tmp_path):
    write_tiny_checkpoint(tmp_path / "dense", "v2-lite", first_k_dense_replace=3)
    experts, weights = araio.load(tmp_path / "dense").route([5, 6])
    assert experts.shape == weights.shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m.chat("hi", temperature=-1), RequestError, "temperature is -1"),
        (lambda m: m.stream("hi", temprature=1), RequestError, "did you mean temperature"),
        (lambda m: m.stream("x" * 300), RequestError, "tokens and the model's context holds 256"),
        (lambda m: m.stream([]), TextError, "empty"),
        (lambda m: m.stream([{"role": "wizard", "content": "hi"}]), TextError, "wizard"),
        (lambda m: m.logits([]), RequestError, "empty"),
        (lambda m: m.logits([10**6]), RequestError, "token 0"),
        (lambda m: m.route([5] * 257), RequestError, "257 tokens"),
        (lambda _: araio.load("no-such-model"), ModelNotFoundError, "no-such-model"),
    ],
)
def test_mistakes_are_told_at_once(model, call, error, words):
    with pytest.raises(error, match=words):
        call(model)


@pytest.mark.parametrize(
    ("memory", "error", "words"),
    [
        ({"ram": 108e6}, RequestError, "ram is 108000000.0; expected a whole number"),
        ({"ram": True}, RequestError, "ram is True"),
        ({"ram": 0}, RequestError, "ram is 0"),
        ({"ram": "6"}, RequestError, "ram is '6'; expected a size such as"),
        ({"ram": 1 << 20}, BudgetError, "are the least that works"),
        ({"ram": 1 << 60}, BudgetError, "this machine, or the group"),
        ({"cache_tokens": 0}, RequestError, "cache_tokens is 0"),
        ({"cache_tokens": 4096.0}, RequestError, "cache_tokens is 4096.0"),
        ({"io": "mmap"}, DiskError, "expected one of auto, direct, buffered, uring"),
        ({"pins": {99: [0]}}, BudgetError, "pins name layer 99"),
        ({"pins": {1: [0, 1000]}}, BudgetError, r"experts \[1000\]"),
    ],
)
def test_memory_that_cannot_be_is_told_before_a_weight_is_read(folder, memory, error, words):
    with pytest.raises(error, match=words):
        araio.load(folder, **memory)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    write_tiny_checkpoint(tmp_path / "tiny", "v2-lite", vocab_size=100)
    with pytest.raises(CheckpointError, match=r"tokens, but config\.json has vocab_size = 100"):
        araio.load(tmp_path / "tiny")


@pytest.mark.parametrize(
    "rates", [{"country": ""}, {"country": "Atlantis"}, {"prices": ""}, {"prices": "-1,2"}]
)
def test_rates_that_cannot_be_are_told_before_an_answer(folder, rates):
    with pytest.raises(CostError):
        araio.load(folder, **rates)


def test_what_the_environment_says_later_costs_no_answer(folder, monkeypatch):
    loaded = araio.load(folder)
    monkeypatch.setenv("ARAIO_COUNTRY", "Atlantis")
    assert loaded.chat("hi", max_tokens=2).receipt.tariff.intensity.country == "World"


def test_the_document_is_plain_json(model):
    document = json.loads(json.dumps(model.chat("hi", max_tokens=2).to_dict()))
    assert set(document) == {"model", "reasoning", "content", "finish_reason", "usage"}
