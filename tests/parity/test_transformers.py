"""Our forward pass against Hugging Face transformers' own classes, on the same random checkpoint.

The oracle reads the weights as we stored them: bfloat16 widened by itself, FP8 widened by us, since
transformers cannot read an FP8 checkpoint whose matrices are not multiples of the block.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from araio.config import ModelConfig
from araio.nn.model import Model
from araio.testing.checkpoints import FAMILIES, write_tiny_checkpoint
from araio.weights.load import load_model

from .oracle import TOLERANCE, load_oracle, their_logits


@dataclass(frozen=True)
class Pair:
    config: ModelConfig
    ours: Model
    theirs: PreTrainedModel

    def ids(self, count: int) -> np.ndarray:
        return np.random.default_rng(count).integers(0, self.config.vocab_size, count)

    def expected_logits(self, ids: np.ndarray) -> np.ndarray:
        return their_logits(self.theirs, ids)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp(request.param)
    config = write_tiny_checkpoint(folder, request.param, seed=1)
    return Pair(config, load_model(folder), load_oracle(folder, config))


def test_prefill_gives_the_same_logits(pair: Pair) -> None:
    ids = pair.ids(24)
    logits = pair.ours.logits(pair.ours.forward(ids, pair.ours.new_cache("float32")))
    np.testing.assert_allclose(logits, pair.expected_logits(ids), **TOLERANCE)


def test_yarn_beyond_the_original_context_gives_the_same_logits(pair: Pair) -> None:
    ids = pair.ids(200)
    assert pair.config.rope_scaling is not None
    assert len(ids) > 4 * pair.config.rope_scaling.original_max_position_embeddings
    logits = pair.ours.logits(pair.ours.forward(ids, pair.ours.new_cache("float32")))
    np.testing.assert_allclose(logits, pair.expected_logits(ids), **TOLERANCE)


def test_chunked_prefill_gives_the_same_logits(pair: Pair) -> None:
    ids = pair.ids(64)
    cache = pair.ours.new_cache("float32")
    chunks = [pair.ours.forward(chunk, cache) for chunk in np.split(ids, [1, 20, 23, 60])]
    np.testing.assert_allclose(
        pair.ours.logits(np.concatenate(chunks)), pair.expected_logits(ids), **TOLERANCE
    )


def test_cached_decode_gives_the_same_logits(pair: Pair) -> None:
    ids = pair.ids(40)
    cache = pair.ours.new_cache("float32")
    hidden = [pair.ours.forward(ids[:8], cache)]
    hidden += [pair.ours.forward(ids[i : i + 1], cache, absorbed=True) for i in range(8, len(ids))]
    np.testing.assert_allclose(
        pair.ours.logits(np.concatenate(hidden)), pair.expected_logits(ids), **TOLERANCE
    )


def test_greedy_text_is_identical(pair: Pair) -> None:
    prompt, count = pair.ids(12), 48
    expected = pair.theirs.generate(
        torch.from_numpy(prompt)[None],
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        do_sample=False,
        min_new_tokens=count,
        max_new_tokens=count,
        pad_token_id=0,
        suppress_tokens=None,
    )[0, len(prompt) :].tolist()
    assert greedy(pair.ours, prompt, count, pair.config.eos_token_id) == expected


def greedy(model: Model, prompt: np.ndarray, count: int, never: tuple[int, ...]) -> list[int]:
    cache = model.new_cache("float32")
    hidden = model.forward(prompt, cache)
    tokens: list[int] = []
    while True:
        logits = model.logits(hidden[-1:])[0]
        logits[list(never)] = -np.inf  # as min_new_tokens does
        tokens.append(int(logits.argmax()))
        if len(tokens) == count:
            return tokens
        hidden = model.forward(np.array(tokens[-1:]), cache, absorbed=True)
