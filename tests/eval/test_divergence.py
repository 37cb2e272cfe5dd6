"""The distance between two models, on real logits of tiny checkpoints."""

import math

import numpy as np
import pytest

import araio
from araio.errors import RequestError
from araio.eval.divergence import divergence, task_sequences, text_sequences
from araio.testing.checkpoints import write_tiny_checkpoint


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        write_tiny_checkpoint(folder / str(seed), "v3", seed=seed)
    return [araio.load(folder / str(seed)) for seed in (0, 1)]


def test_a_model_is_not_far_from_itself(models) -> None:
    found = divergence(models[0], models[0], [[1, 2, 3, 4], [5, 6]])
    assert (found.tokens, found.mean_kl, found.max_kl, found.top1_agreement) == (4, 0.0, 0.0, 1.0)
    assert found.perplexity == found.reference_perplexity


def test_another_model_is_as_far_as_the_definition_says(models) -> None:
    ids = list(range(3, 150))  # more rows than are compared at once
    found = divergence(*models, [ids])
    ours, theirs = (model.logits(ids)[:-1].astype(np.float64) for model in models)
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (theirs, ours))
    kl = (p * np.log(p / q)).sum(1)
    assert found.tokens == len(ids) - 1
    assert found.mean_kl == pytest.approx(kl.mean())
    assert found.max_kl == pytest.approx(kl.max())
    assert found.p99_kl == pytest.approx(np.quantile(kl, 0.99))
    assert found.top1_agreement == pytest.approx((p.argmax(1) == q.argmax(1)).mean())
    loss = -np.log(q[np.arange(len(q)), ids[1:]])
    assert found.perplexity == pytest.approx(math.exp(loss.mean()))


def test_sequences_are_what_the_model_would_see(models) -> None:
    model = models[0]
    (sequence,) = task_sequences(model, ["chain"], 1, seed=0)
    text = model.tokenizer.decode(sequence)
    assert text.startswith(model.tokenizer.decode([model.tokenizer.bos_id]))
    assert text.count("</think>") == 1
    pieces = text_sequences(model, "word " * 600)
    assert len(pieces) > 1
    assert all(
        piece[0] == model.tokenizer.bos_id and len(piece) <= model.config.max_position_embeddings
        for piece in pieces
    )


def test_nothing_to_compare_on_is_refused(models) -> None:
    with pytest.raises(RequestError, match="at least two tokens"):
        divergence(*models, [[1]])
