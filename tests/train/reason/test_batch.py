"""Answers in rows: nothing is lost, cut or mixed up."""

import numpy as np
import torch

from araio.train.data import IGNORE
from araio.train.reason.batch import Scored, pack
from araio.train.reason.rollout import Answer

PAD = 99


def scored(number, prompt, tokens):
    ids = [10 * number + place for place in range(tokens)]
    ran = prompt + tokens - 1
    routes = np.full((ran, 2, 1), number, dtype=np.int32)
    logprobs = np.array([-number - place / 100 for place in range(tokens)], dtype=np.float32)
    return Scored([50 + number] * prompt, Answer(ids, logprobs, routes), 1.0)


def test_every_token_keeps_what_belongs_to_it():
    answers = [scored(1, 3, 2), scored(2, 2, 5), scored(3, 1, 4), scored(4, 4, 4)]
    batches = pack(answers, rows=1, length=8, pad=PAD)
    assert len(batches) == 4
    seen = {}
    for packed in batches:
        labels = packed.batch.labels[packed.batch.labels != IGNORE]
        for label, sequence, behaviour in zip(labels, packed.sequence, packed.behaviour, strict=True):
            seen.setdefault(int(sequence), []).append((int(label), round(float(behaviour), 2)))
        ran = packed.routes[..., 0, 0]
        for row, tokens in zip(ran, packed.batch.tokens, strict=True):
            of_prompt = tokens >= 50
            is_text = of_prompt & (tokens != PAD)
            assert torch.equal(row[is_text], tokens[is_text] - 50), "each token has its own answer's routes"
            assert (row[tokens == PAD] == -1).all()
    assert seen == {
        number: [
            (10 * (number + 1) + place, round(-(number + 1) - place / 100, 2)) for place in range(tokens)
        ]
        for number, tokens in enumerate((2, 5, 4, 4))
    }


def test_rows_are_filled_and_divided_into_batches():
    batches = pack([scored(1, 2, 2) for _ in range(10)], rows=2, length=8, pad=PAD)
    assert [packed.batch.tokens.shape for packed in batches] == [(2, 8), (2, 8), (1, 8)]
    assert all(bool(packed.batch.is_token.all()) for packed in batches)


def test_the_last_token_of_an_answer_has_no_routes():
    packed = pack([scored(1, 2, 3)], rows=1, length=6, pad=PAD)[0]
    assert packed.routes[0, :, 0, 0].tolist() == [1, 1, 1, 1, -1, -1]
