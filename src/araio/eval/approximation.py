"""What an approximation costs: `approximation_cost` runs a model with it and without, and keeps the result.

Both read the same text, token by token as in decoding, so that early differences do not grow and `cached` has
its cache. Where experts come from disk, each of the two begins with the cache that another text has left, and
neither is the first to run this one; an exact model against itself so reads within a few percent of the same.
Measured once for each model, approximation and share of experts in memory, and kept in the user's cache
folder: what is missing or damaged is measured again. Read `nn/approximations.py` for what they do,
`divergence.py` for the same distance over more text.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from araio.api import Model
from araio.atomic import write_text
from araio.errors import GenerationError
from araio.eval.divergence import compare
from araio.json_reader import read_object
from araio.nn.batch import Routes, Segment
from araio.nn.kv_cache import LatentCache
from araio.tensors import Float32Array
from araio.weights.locate import locate
from araio.weights.usage import model_file

__all__ = ["ApproximationCost", "approximation_cost", "measure_approximation"]

FORM = 1
_MAX_BYTES = 1 << 16

# Tokens: read as a prompt, then measured one by one; decoded before, so that the cache holds something else.
PROMPT, MEASURED, BEFORE = 16, 96, 32

TEXT = (
    "The lighthouse keeper wrote two lines in the log every night: what the sea did, and what he did about "
    "it. Most entries were short. Wind from the west, lamp trimmed at nine, one ship passed to the north. On "
    "the last page of the year he added up the ships, as his father had done, and found four more than the "
    "year before. He did not know whether trade was better or whether he had only looked more often. So he "
    "began a third line, in which he wrote how many hours he had watched, and after that the numbers could "
    "be compared. His daughter, who kept the light after him, used the same three lines until the lamp was "
    "made electric and nobody had to stay awake for it."
)
TEXT_BEFORE = (
    "To bake a plain loaf, mix five parts of flour with three parts of water, a little salt and less yeast "
    "than you think. Let it stand until it has doubled, fold it, and let it stand again. A hot oven matters "
    "more than a long one."
)


@dataclass(frozen=True)
class ApproximationCost:
    """What was measured over so many tokens.

    mean_kl    of KL(exact || approximate) of the next token, in nats
    agreement  share of tokens after which both find the same next one the most likely
    read_less  share of the exact model's bytes that need not be read, below 0 where more are; None if it
               reads none in the long run
    from_disk  those bytes are read from disk; else from memory, of all weights
    """

    name: str
    tokens: int
    mean_kl: float
    agreement: float
    read_less: float | None
    from_disk: bool

    @property
    def text(self) -> str:
        """In one line."""
        kept = f"KL {self.mean_kl:.3f} nats, first choice kept {self.agreement:.0%}"
        line = f"approximate ({self.name}): {kept} (measured on {self.tokens} tokens)"
        if self.read_less is None:
            return line
        amount = f"{abs(self.read_less):.0%} {'less' if self.read_less >= 0 else 'more'}"
        return f"{line}; read {amount} {'from disk' if self.from_disk else 'of memory'}"


def approximation_cost(model: Model, on_measure: Callable[[], None] | None = None) -> ApproximationCost:
    """What the model's approximation costs, as it was measured before, or else measured now.

    on_measure  called before it is measured, which takes as long as decoding 360 tokens

    Raises:
        GenerationError: the model's output is not a number.
        CheckpointError: experts that cannot be read.
    """
    path = _path(model)
    if (known := _read(path)) is not None:
        return known
    if on_measure is not None:
        on_measure()
    cost = measure_approximation(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"form": FORM, **asdict(cost)}) + "\n")
    except OSError as error:
        sys.stderr.write(f"{path}: what was measured could not be kept ({error.strerror})\n")
    return cost


def measure_approximation(model: Model) -> ApproximationCost:
    """The same, whatever was measured before; the model must have an approximation."""
    network, name = model.network, model.approximate
    assert name is not None
    ids, before = _ids(model, TEXT, PROMPT + MEASURED + 1), _ids(model, TEXT_BEFORE, 1 + BEFORE)
    asked = network.approximation
    with model.engine.lock:
        try:
            network.approximation = None
            if model.experts is not None:
                # The policy learns a text as it runs, so neither of the two must be the first to run it.
                list(_Pass(model, ids))
            _fill_cache(model, before)
            exact = _Pass(model, ids)
            rows = list(exact)
            _fill_cache(model, before)
            network.approximation = asked
            approximate = _Pass(model, ids)
            columns = [
                column
                for place, (ours, theirs) in enumerate(zip(approximate, rows, strict=True), PROMPT)
                for column in compare(ours, theirs, np.asarray(ids[place : place + 2]))
            ]
        finally:
            network.approximation = asked
    kl, agrees, *_ = np.concatenate(columns, axis=1)
    if not math.isfinite(kl.mean()):
        raise GenerationError(
            f"{model.name} with {name} gives what is not a number; run it without --approximate"
        )
    read_less = None
    if exact.bytes_read and not _reads_once(model):
        read_less = 1 - approximate.bytes_read / exact.bytes_read
    return ApproximationCost(
        name, len(kl), float(kl.mean()), float(agrees.mean()), read_less, model.experts is not None
    )


def _reads_once(model: Model) -> bool:
    """Whether experts come from disk and all of them fit into memory: what was read first says nothing."""
    experts, slots = model.experts, model.budget.slots
    return experts is not None and slots is not None and slots >= experts.count


class _Pass:
    """Runs a text and gives the logits (1, W) of each token but the first, which are a prompt, and the last.

    bytes_read  for those that it has given
    """

    def __init__(self, model: Model, ids: Sequence[int]) -> None:
        self._model, self._ids = model, np.asarray(ids, np.int64)
        self.bytes_read = 0

    def __iter__(self) -> Iterator[Float32Array]:
        network, ids = self._model.network, self._ids
        cache = LatentCache(network.new_pool(len(ids)))
        network.forward(ids[:PROMPT], cache)
        for place in range(PROMPT, len(ids) - 1):
            routes = Routes()
            before = self._from_disk()
            hidden = network.step([Segment(ids[place : place + 1], cache, absorbed=True)], routes)
            cache.advance(1)
            self.bytes_read += self._from_disk() - before
            if self._model.experts is None:
                held = network.held
                self.bytes_read += (
                    held.dense + held.head + held.row + held.expert * sum(map(np.size, routes.ids))
                )
            yield network.logits(hidden)

    def _from_disk(self) -> int:
        experts = self._model.experts
        return 0 if experts is None else experts.counters.read_bytes


def _fill_cache(model: Model, ids: Sequence[int]) -> None:
    """Decode a text, exactly, if what is in memory after it matters."""
    if model.experts is None:
        return
    cache = LatentCache(model.network.new_pool(len(ids)))
    for token in ids:
        model.network.forward(np.array([token], np.int64), cache, absorbed=True)


def _ids(model: Model, text: str, most: int) -> list[int]:
    """A text's first tokens, behind the one that opens a sequence."""
    opening = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
    return [*opening, *model.tokenizer.encode(text)][: min(most, model.config.max_position_embeddings)]


def _path(model: Model) -> Path:
    """Where the result for this model is kept."""
    folder = locate(model.name)
    experts, slots = model.experts, model.budget.slots
    # Memory that differs a little from day to day does not make it another model.
    tenths = 10 if experts is None or slots is None else round(10 * slots / experts.count)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return model_file("approximations", folder, files, [model.approximate, tenths])


def _read(path: Path) -> ApproximationCost | None:
    """What was kept; None where there is nothing that can be used."""
    try:
        document = read_object(path, _MAX_BYTES)
        if document["form"] != FORM:
            return None
        read_less = document["read_less"]
        return ApproximationCost(
            str(document["name"]),
            int(document["tokens"]),
            float(document["mean_kl"]),
            float(document["agreement"]),
            None if read_less is None else float(read_less),
            bool(document["from_disk"]),
        )
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None
