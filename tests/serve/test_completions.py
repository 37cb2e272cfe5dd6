"""Text that is continued, and scored."""

import numpy as np
import openai
import pytest

PROMPT = "What is 47 + 38 - 12?"


def create(client, **given):
    return client.completions.create(
        **{"model": "pocket", "prompt": PROMPT, "max_tokens": 12, "seed": 5, **given}
    )


def test_text_goes_on(client, live):
    answer = create(client)
    expected = live.service.model.complete(PROMPT, max_tokens=12, seed=5)
    assert answer.choices[0].text == expected.content
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert create(client, echo=True).choices[0].text == PROMPT + expected.content
    assert answer.usage.prompt_tokens == expected.usage["prompt_tokens"]


def test_every_form_of_a_prompt_is_taken(client, live):
    tokenizer = live.service.model.tokenizer
    ids = [tokenizer.bos_id, *tokenizer.encode(PROMPT)]
    other = [tokenizer.bos_id, *tokenizer.encode("Once upon a time")]
    text = create(client).choices[0].text
    assert create(client, prompt=ids).choices[0].text == text
    many = create(client, prompt=[ids, other], n=2, temperature=0.8)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    texts = create(client, prompt=[PROMPT, "Once upon a time"], n=2, temperature=0.8)
    assert [choice.text for choice in texts.choices] == [choice.text for choice in many.choices]
    assert many.usage.prompt_tokens == len(ids) + len(other)


def test_a_stream_has_the_same_text(client):
    whole = create(client, echo=True, n=2, temperature=1.0)
    texts = {0: "", 1: ""}
    options = {"include_usage": True}
    for chunk in create(client, echo=True, n=2, temperature=1.0, stream=True, stream_options=options):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
        usage = chunk.usage
    assert [texts[0], texts[1]] == [choice.text for choice in whole.choices]
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_a_prompt_is_scored_token_by_token(client, live):
    model = live.service.model
    ids = [model.tokenizer.bos_id, *model.tokenizer.encode(PROMPT)]
    rows = model.logits(ids).astype(np.float64)
    shifted = rows - rows.max(axis=1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    expected = [float(logprobs[at, token]) for at, token in enumerate(ids[1:])]
    answer = create(client, prompt=ids, max_tokens=0, echo=True, logprobs=2)
    (choice,) = answer.choices
    found = choice.logprobs
    assert choice.text == model.tokenizer.decode(ids)
    assert answer.usage.completion_tokens == 0
    assert "".join(found.tokens) == choice.text
    assert found.token_logprobs[0] is found.top_logprobs[0] is None
    assert found.token_logprobs[1:] == pytest.approx(expected, abs=1e-5)
    for token, offset in zip(found.tokens, found.text_offset, strict=True):
        assert choice.text.startswith(token, offset)
    for token, logprob, top in zip(
        found.tokens[1:], found.token_logprobs[1:], found.top_logprobs[1:], strict=True
    ):
        assert top[token] == logprob
        assert 2 <= len(top) <= 3
    # Text is opened by a token that its author did not write, and is not told of it.
    written = create(client, prompt=PROMPT, max_tokens=1, echo=True, logprobs=2).choices[0].logprobs
    assert "".join(written.tokens[:-1]) == PROMPT
    assert written.token_logprobs[1:-1] == pytest.approx(expected[1:], abs=1e-5)
    assert written.token_logprobs[0] is None


MANY_BYTES = "a\N{EURO SIGN} \N{GRINNING FACE}\N{GRINNING FACE} \u0101\u00e9 end"


def test_a_token_that_begins_inside_a_character_begins_where_that_does(client, live):
    tokenizer = live.service.model.tokenizer
    ids = tokenizer.encode(MANY_BYTES)
    pieces = [tokenizer.token_bytes(token) for token in ids]
    assert "\ufffd" in [piece.decode(errors="replace") for piece in pieces], "a character in two tokens"
    whole = MANY_BYTES.encode()
    expected = []
    for place in range(len(pieces)):
        before = b"".join(pieces[:place])
        # As many characters as end before it.
        expected.append(len(whole[: len(before)].decode(errors="ignore")))
    for prompt in (MANY_BYTES, ids):
        choice = create(client, prompt=prompt, max_tokens=1, echo=True, logprobs=0).choices[0]
        assert choice.logprobs.text_offset == [*expected, len(MANY_BYTES)]


def test_a_stream_tells_the_same_offsets_whatever_is_held_back(client):
    asked = {"logprobs": 0, "max_tokens": 12, "stop": ["never this", "  "], "temperature": 1.0}
    whole = create(client, **asked).choices[0].logprobs
    told = [chunk.choices[0].logprobs for chunk in create(client, stream=True, **asked)]
    assert [offset for each in told if each for offset in each.text_offset] == whole.text_offset


def test_choices_of_one_text_are_those_of_each_alone(client):
    asked = {"temperature": 1.0, "max_tokens": 6, "n": 2, "seed": 3}
    several = create(client, prompt=[PROMPT, "9 - 4 ="], **asked)
    each = [create(client, prompt=prompt, **asked) for prompt in (PROMPT, "9 - 4 =")]
    assert [choice.text for choice in several.choices] == [
        choice.text for answer in each for choice in answer.choices
    ]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"suffix": "the end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": [5000]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"echo": True, "logprobs": 1, "stream": True}, "echo"),
    ],
)
def test_what_cannot_be_continued_is_refused_by_name(client, given, param):
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, **given)
    assert caught.value.param == param


def test_more_to_score_than_can_be_kept_is_the_fault_of_what_was_sent(http):
    asked = {"prompt": [5] * 30_000, "echo": True, "logprobs": 20, "max_tokens": 0}
    reply = http.post("/v1/completions", json=asked)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "logprobs")
