"""What is timed is really computed: every sequence, every token, each layer of the main model, no more."""

import numpy as np
import pytest

from araio.formats.store_layout import StoreCodecs
from araio.kernels import reference
from araio.testing import timer
from araio.testing.checkpoints import tiny_config
from araio.testing.random_weights import random_model
from araio.testing.timer import SHORT_CONTEXT, ModelTimer


class Watched:
    """A timer over a tiny model with a prediction module, and a record of what the model was asked.

    steps   of each call of `step`, per segment: ids, positions before them, the form of attention
    logits  rows of each call
    layers  that routed a token
    """

    def __init__(self) -> None:
        self.model = random_model(tiny_config("v3"), StoreCodecs("f32", "f32", "f32"), reference.OPS)
        assert self.model.mtp is not None
        self.steps: list[list[tuple[list[int], int, bool]]] = []
        self.logits: list[int] = []
        self.layers: set[int] = set()
        self.first_caches: list = []
        step, logits = self.model.step, self.model.logits

        def watched_step(segments):
            self.first_caches = self.first_caches or [segment.cache for segment in segments]
            self.steps.append(
                [(ids.tolist(), cache.length, absorbed) for ids, cache, absorbed, _ in segments]
            )
            return step(segments)

        def watched_logits(hidden):
            self.logits.append(len(hidden))
            return logits(hidden)

        self.model.step, self.model.logits = watched_step, watched_logits
        self.model.on_route = lambda layer, ids, weights: self.layers.add(layer)
        self.timer = ModelTimer(self.model)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_prompt_is_one_step_up_to_the_logits_of_its_last_token(watched) -> None:
    assert watched.timer.prefill(20) > 0
    (((ids, before, absorbed),),) = watched.steps
    assert (len(ids), before, absorbed) == (20, 0, False)
    assert watched.logits == [1]
    assert watched.layers == set(watched.model.config.moe_layers)


def test_a_sequence_is_decoded_token_by_token_behind_its_context(watched) -> None:
    assert watched.timer.decode(4, context=100) > 0
    assert [[(len(ids), *rest) for ids, *rest in step] for step in watched.steps] == [
        [(1, 100 + place, True)] for place in range(4)
    ]
    assert watched.logits == [1] * 4
    assert watched.layers == set(watched.model.config.moe_layers)


def test_sequences_are_decoded_together_each_with_tokens_of_its_own(watched) -> None:
    assert watched.timer.decode_together(3, tokens=5) > 0
    assert len(watched.steps) == 5
    for place, step in enumerate(watched.steps):
        assert [(len(ids), *rest) for ids, *rest in step] == [(1, SHORT_CONTEXT + place, True)] * 3
    assert watched.logits == [3] * 5
    sequences = {tuple(step[number][0][0] for step in watched.steps) for number in range(3)}
    assert len(sequences) == 3
    pages = [page for cache in watched.first_caches for page in cache.pages]
    assert len(set(pages)) == len(pages)


def test_ids_are_tokens_of_the_model(watched) -> None:
    watched.timer.prefill(200)
    ids = np.array(watched.steps[0][0][0])
    assert ids.min() >= 0
    assert ids.max() < watched.model.config.vocab_size
    assert len(np.unique(ids)) > 50


def test_made_up_latents_fill_every_layer(watched) -> None:
    watched.timer.decode(1, context=70)
    (cache,) = watched.first_caches
    for layer in range(watched.model.config.num_hidden_layers):
        rows = cache.pool.layer(layer)[cache.pages].reshape(-1, cache.pool.layer(layer).shape[2])[:70]
        assert (rows != 0).any(axis=1).all()


def test_every_call_uses_the_threads_of_the_moment(watched, monkeypatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(timer, "select", lambda backend, threads: seen.append(threads))
    for threads in (2, 5):
        watched.timer.threads = threads
        watched.timer.prefill(2)
        watched.timer.decode(1)
        watched.timer.decode_together(2, 1)
    assert seen == [2, 2, 2, 5, 5, 5]


def test_joules_are_those_of_what_is_timed(watched, monkeypatch) -> None:
    """The meter is read twice, and what is prepared, such as made-up latents, lies before that."""

    class Meter:
        def __init__(self) -> None:
            self.marks: list[int] = []

        def mark(self) -> int:
            self.marks.append(len(watched.steps))
            return len(self.marks)

        def between(self, start: int, end: int) -> tuple[int, int]:
            return start, end

    assert watched.timer.energy is None
    watched.timer.meter = Meter()
    watched.timer.decode(3, context=100)
    assert watched.timer.meter.marks == [0, 3]
    assert watched.timer.energy == (1, 2)
