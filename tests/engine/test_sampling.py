"""The sampler against plain definitions, written with Python lists."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.engine.request import SamplingParams
from araio.engine.sampling import Sampler, filtered, score
from araio.errors import GenerationError

# Whole halves: many ties, and no difference that float32 cannot hold.
rows = st.lists(st.integers(-20, 20).map(lambda n: n / 2), min_size=1, max_size=12)


def sampler(vocab=8, prompt=(), **given_params):
    return Sampler(SamplingParams(**given_params), list(prompt), vocab)


def softmax(values, temperature=1.0):
    best = max(values)
    weights = [math.exp((v - best) / temperature) for v in values]
    return [w / sum(weights) for w in weights]


def plain_filter(row, temperature, top_k, top_p, min_p):
    """{id: probability} by the definitions, in the documented order."""
    ranked = sorted(range(len(row)), key=lambda i: (-row[i], i))
    probability = softmax(row, temperature)
    kept = ranked[:top_k] if top_k else ranked
    total = sum(probability[i] for i in kept)
    prefix, mass = [], 0.0
    for i in kept:
        prefix.append(i)
        mass += probability[i]
        if mass >= top_p * total:
            break
    kept = [i for i in prefix if probability[i] >= min_p * probability[prefix[0]]]
    total = sum(probability[i] for i in kept)
    return {i: probability[i] / total for i in kept}


@given(
    row=rows,
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.integers(0, 14),
    top_p=st.sampled_from([0.013, 0.41, 0.77, 0.9999]),
    min_p=st.sampled_from([0.0, 0.017, 0.53, 1.0]),
)
def test_filters_agree_with_their_definitions(row, temperature, top_k, top_p, min_p):
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    ids, probabilities = filtered(np.array(row), params)
    expected = plain_filter(row, temperature, top_k, top_p, min_p)
    assert list(ids) == list(expected)
    assert list(probabilities) == pytest.approx(list(expected.values()))


@given(row=rows)
def test_without_filters_every_token_keeps_its_softmax_probability(row):
    ids, probabilities = filtered(np.array(row), SamplingParams(temperature=1.0))
    expected = softmax(row)
    assert {int(i): p for i, p in zip(ids, probabilities, strict=True)} == pytest.approx(
        dict(enumerate(expected))
    )


@given(row=rows, seed=st.integers(0, 2**64 - 1))
def test_temperature_zero_is_the_first_largest_logit_whatever_the_seed(row, seed):
    chosen = sampler(len(row), seed=seed).sample(np.float32(row))
    assert chosen.id == row.index(max(row))


@given(row=rows)
def test_the_smallest_temperature_is_greedy_and_raises_no_warning(row):
    ids, probabilities = filtered(np.array(row), SamplingParams(temperature=5e-324))
    best = [i for i, value in enumerate(row) if value == max(row)]
    assert list(ids[: len(best)]) == best
    assert probabilities[: len(best)].sum() == pytest.approx(1.0)


def test_draws_follow_the_distribution():
    row = np.float32([0.0, 1.0, 2.0, -1.0])
    counts = np.zeros(4)
    source = sampler(4, temperature=1.0, seed=7)
    for _ in range(4000):
        counts[source.sample(row).id] += 1
    expected = np.array(softmax(list(row))) * 4000
    # Chi-square with 3 degrees of freedom: 16.3 is passed once in a thousand seeds, and this one is fixed.
    assert ((counts - expected) ** 2 / expected).sum() < 16.3


def draw(seed, n=40):
    source = sampler(64, temperature=1.0, seed=seed)
    return [source.sample(np.zeros(64, np.float32)).id for _ in range(n)]


def test_one_seed_gives_one_sequence_and_global_state_does_not_matter():
    np.random.seed(1)
    first = draw(3)
    np.random.seed(2)
    np.random.rand(5)
    assert draw(3) == first
    assert draw(4) != first
    assert draw(None) != draw(None)


def test_two_samplers_do_not_share_their_stream():
    a, b = (sampler(64, temperature=1.0, seed=3) for _ in range(2))
    row = np.zeros(64, np.float32)
    pairs = [(a.sample(row).id, b.sample(row).id) for _ in range(20)]
    assert all(x == y for x, y in pairs)


@settings(max_examples=50)
@given(
    row=rows,
    prompt=st.lists(st.integers(0, 11), max_size=4),
    repetition=st.sampled_from([0.5, 1.0, 1.3]),
    presence=st.sampled_from([-0.7, 0.0, 1.1]),
    frequency=st.sampled_from([-0.3, 0.0, 0.9]),
)
def test_penalties_agree_with_their_definitions(row, prompt, repetition, presence, frequency):
    prompt = [i % len(row) for i in prompt]
    source = sampler(
        len(row),
        prompt,
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
    )
    answer = []
    for _ in range(6):
        expected = []
        for i, logit in enumerate(row):
            if i in prompt or i in answer:
                logit = logit / repetition if logit > 0 else logit * repetition
            expected.append(logit - frequency * answer.count(i) - presence * (i in answer))
        chosen = source.sample(np.float32(row)).id
        assert expected[chosen] == pytest.approx(max(expected))
        answer.append(chosen)


@given(row=rows, n=st.integers(0, 14))
def test_logprobs_are_the_models_own_before_penalties_and_temperature(row, n):
    source = sampler(len(row), [0], temperature=0.2, repetition_penalty=5.0, logprobs=n, seed=1)
    chosen = source.sample(np.float32(row))
    expected = [math.log(p) for p in softmax(row)]
    assert chosen.logprob == pytest.approx(expected[chosen.id])
    ranked = sorted(range(len(row)), key=lambda i: (-row[i], i))[:n]
    assert [i for i, _ in chosen.alternatives] == ranked
    assert [p for _, p in chosen.alternatives] == pytest.approx([expected[i] for i in ranked])


def test_no_logprobs_unless_asked():
    chosen = sampler().sample(np.zeros(8, np.float32))
    assert chosen.logprob is None
    assert chosen.alternatives == ()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_an_error(bad, temperature):
    row = np.zeros(8, np.float32)
    row[3] = bad
    with pytest.raises(GenerationError, match="1 of 8 logits are NaN or infinite"):
        sampler(temperature=temperature).sample(row)


def test_the_models_logits_are_left_alone():
    row = np.float32([1, 2, 3, 4, 5, 6, 7, 8])
    row.setflags(write=False)
    sampler(prompt=[7], repetition_penalty=2.0, temperature=1.0, seed=0).sample(row)


LARGEST = float(np.finfo(np.float32).max)


@given(
    row=st.lists(st.sampled_from([-LARGEST, -1.0, -1e-45, 0.0, 1e-45, 1.0, LARGEST]), min_size=1, max_size=6),
    temperature=st.sampled_from([0.0, 5e-324, 1e-3, 1.0, 100.0]),
    top_k=st.sampled_from([0, 1, 10**9]),
    top_p=st.sampled_from([5e-324, 0.5, 1.0]),
    min_p=st.sampled_from([0.0, 5e-324, 1.0]),
    repetition_penalty=st.sampled_from([0.01, 1.0, 10.0]),
    presence_penalty=st.sampled_from([-2.0, 0.0, 2.0]),
    frequency_penalty=st.sampled_from([-2.0, 0.0, 2.0]),
    logprobs=st.sampled_from([None, 0, 20]),
)
def test_every_parameter_at_its_limits_chooses_a_token(row, **given_params):
    chooser = sampler(len(row), prompt=[0], seed=0, **given_params)
    for _ in range(3):
        assert 0 <= chooser.sample(np.array(row, np.float32)).id < len(row)


def test_a_bias_is_added_before_all_that_chooses():
    row = np.array([1.0, 2.0, -3.0, 0.0], np.float32)
    assert sampler(4, logit_bias={2: 5.5}).sample(row).id == 2
    assert sampler(4, logit_bias={1: -100}).sample(row).id == 0
    # The bias makes the logit of token 0 negative, so the penalty then multiplies it.
    chosen = sampler(2, [0], logit_bias={0: -2.0}, repetition_penalty=2.0)
    assert chosen.sample(np.array([1.0, -1.5], np.float32)).id == 1
    assert sampler(2, [0], logit_bias={0: -2.0}).sample(np.array([1.0, -1.5], np.float32)).id == 0


def test_a_bias_leaves_what_is_reported_alone():
    row = np.array([1.0, 2.0, -3.0, 0.0], np.float32)
    biased = sampler(4, logit_bias={2: 50}, logprobs=2).sample(row)
    assert biased.id == 2
    assert biased.logprob == pytest.approx(math.log(softmax(row.tolist())[2]))
    assert [i for i, _ in biased.alternatives] == [1, 0]
    assert row.tolist() == [1.0, 2.0, -3.0, 0.0]


@given(row=rows, alternatives=st.integers(0, 20))
def test_a_token_that_was_given_is_reported_as_one_that_was_chosen(row, alternatives):
    logits = np.array(row, np.float32)
    given_token = score(len(row) - 1, logits, alternatives)
    ranked = sorted(range(len(row)), key=lambda i: (-row[i], i))
    assert [i for i, _ in given_token.alternatives] == ranked[:alternatives]
    chosen = sampler(len(row), logprobs=alternatives).sample(logits)
    assert chosen == score(chosen.id, logits, alternatives)


def test_a_given_token_with_broken_logits_is_refused():
    with pytest.raises(GenerationError, match="1 of 2 logits are NaN"):
        score(0, np.array([0, np.nan], np.float32), 1)
