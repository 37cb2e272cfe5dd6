import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.engine.request import (
    SamplingParams,
    check_prompt,
    params_from,
    read_generation_defaults,
    read_stop_ids,
)
from araio.errors import FormatError, RequestError
from araio.testing.checkpoints import tiny_config

RANGES = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 10.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
ABOVE_LOW = {"top_p"}
INTEGERS = {"top_k": (0, None), "max_tokens": (1, None), "seed": (0, 2**64 - 1), "logprobs": (0, 20)}
INTEGERS["prompt_logprobs"] = (0, 20)


@pytest.mark.parametrize("name", RANGES)
@given(value=st.floats())
def test_numbers_are_taken_inside_their_range_and_refused_by_name_outside(name, value):
    low, high = RANGES[name]
    if low <= value <= high and not (name in ABOVE_LOW and value == low):
        assert getattr(SamplingParams(**{name: value}), name) == value
    else:
        with pytest.raises(RequestError, match=rf"^{name} is .*; expected a number .*{high:g}$"):
            SamplingParams(**{name: value})


@pytest.mark.parametrize("name", INTEGERS)
@given(value=st.integers(-(2**70), 2**70))
def test_integers_are_taken_inside_their_range_and_refused_by_name_outside(name, value):
    low, high = INTEGERS[name]
    if value >= low and (high is None or value <= high):
        assert getattr(SamplingParams(**{name: value}), name) == value
    else:
        with pytest.raises(RequestError, match=rf"^{name} is {value}; expected an integer"):
            SamplingParams(**{name: value})


@pytest.mark.parametrize("name", [*RANGES, *INTEGERS])
@pytest.mark.parametrize(
    "value", [True, "0.5", [1], math.nan, math.inf, 1j, pytest.param(-(10**5000), id="huge")]
)
def test_other_types_are_refused(name, value):
    with pytest.raises(RequestError, match=rf"^{name} is "):
        SamplingParams(**{name: value})


@pytest.mark.parametrize("name", ["temperature", "top_k", "max_tokens"])
def test_none_is_no_number(name):
    with pytest.raises(RequestError, match=f"^{name} is None"):
        SamplingParams(**{name: None})


def test_stop_takes_a_string_or_strings():
    assert SamplingParams(stop="END").stop == ("END",)
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")
    assert SamplingParams().stop == ()


@pytest.mark.parametrize("stop", ["", [""], [1], 5, b"end", {"a": 1}, ["x" * 257], ["a"] * 17])
def test_stop_refuses_the_rest(stop):
    with pytest.raises(RequestError, match=r"^stop ") as caught:
        SamplingParams(stop=stop)
    assert caught.value.param == "stop"
    assert len(str(caught.value)) < 200


def test_an_endless_stop_list_is_refused_without_reading_it_all():
    def endless():
        while True:
            yield "a"

    with pytest.raises(RequestError, match="more than 16"):
        SamplingParams(stop=endless())


def test_an_unknown_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(RequestError, match=r"did you mean temperature.*known: .*max_tokens"):
        params_from({"temprature": 1.0})


def test_what_is_given_wins_over_defaults():
    params = params_from({"temperature": 0.5}, {"temperature": 1.0, "top_p": 0.9})
    assert (params.temperature, params.top_p) == (0.5, 0.9)


def test_generation_config_gives_defaults_only_when_it_samples(tmp_path):
    assert read_generation_defaults(tmp_path) == {}
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"temperature": 0.6, "top_p": 0.95, "eos_token_id": 1}))
    assert read_generation_defaults(tmp_path) == {}
    path.write_text(json.dumps({"do_sample": True, "temperature": 0.6, "top_p": 0.95, "eos_token_id": 1}))
    assert read_generation_defaults(tmp_path) == {"temperature": 0.6, "top_p": 0.95}
    path.write_text(json.dumps({"do_sample": True}))
    assert read_generation_defaults(tmp_path) == {"temperature": 1.0}


@pytest.mark.parametrize("text", ["{", "[]", "\ud800".encode("utf-8", "surrogatepass"), "[" * 100_000])
def test_a_broken_generation_config_is_a_format_error(tmp_path, text):
    path = tmp_path / "generation_config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FormatError, match=r"generation_config\.json"):
        read_generation_defaults(tmp_path)


def test_a_recommended_value_out_of_range_names_the_file(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"do_sample": true, "top_p": 7}')
    with pytest.raises(RequestError, match=r"generation_config\.json: top_p is 7"):
        read_generation_defaults(tmp_path)


@pytest.mark.parametrize(("value", "ids"), [(7, (7,)), ([7, 9], (7, 9)), (None, ())])
def test_generation_config_names_stop_ids(tmp_path, value, ids):
    assert read_stop_ids(tmp_path, 10) == ()
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    assert read_stop_ids(tmp_path, 10) == ids


@pytest.mark.parametrize("value", [-1, 10, "7", [7, True], 1.0, {}])
def test_a_stop_id_that_is_no_token_names_the_file(tmp_path, value):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(FormatError, match=r"generation_config\.json: eos_token_id is"):
        read_stop_ids(tmp_path, 10)


@pytest.mark.parametrize(
    ("biases", "message"),
    [
        ([1], r"logit_bias is \[1\]; expected numbers by token id"),
        ({"1": 1}, "a token of logit_bias is '1'; expected an integer"),
        ({-1: 1}, "a token of logit_bias is -1"),
        ({True: 1}, "a token of logit_bias is True"),
        ({1: 101}, "logit_bias of token 1 is 101; expected a number from -100 to 100"),
        ({7: math.nan}, "logit_bias of token 7 is nan"),
        (dict.fromkeys(range(301), 1), "logit_bias has 301 tokens; give at most 300"),
    ],
)
def test_biases_that_are_none_are_refused(biases, message):
    with pytest.raises(RequestError, match=message) as caught:
        SamplingParams(logit_bias=biases)
    assert caught.value.param == "logit_bias"


def test_biases_are_taken_as_they_are_and_not_shared():
    biases = {0: -100, 5: 2.5}
    params = SamplingParams(logit_bias=biases)
    biases[1] = 1
    assert params.logit_bias == {0: -100, 5: 2.5}


def test_a_bias_for_a_token_that_is_none_is_refused_with_the_prompt():
    config = tiny_config("v3")
    check_prompt(config, [1], SamplingParams(logit_bias={config.vocab_size - 1: 1}), has_tokenizer=True)
    with pytest.raises(RequestError, match=f"token {config.vocab_size}; expected ids from 0"):
        check_prompt(config, [1], SamplingParams(logit_bias={config.vocab_size: 1}), has_tokenizer=True)


def test_no_tokens_may_be_asked_for_only_if_the_prompt_is_what_matters():
    assert SamplingParams(max_tokens=0, prompt_logprobs=0).max_tokens == 0
    config = tiny_config("v3")
    whole = [1] * config.max_position_embeddings
    check_prompt(config, whole, SamplingParams(max_tokens=0, prompt_logprobs=0), has_tokenizer=True)
    with pytest.raises(RequestError, match="one of them for the answer"):
        check_prompt(config, whole, SamplingParams(prompt_logprobs=0), has_tokenizer=True)
