"""Answers to batches: packed into rows as documents are, each token with what is known of its sampling.

Read `train/data.py` for rows, `update.py` for what is computed from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from araio.train.data import IGNORE, Batch, BatchStream, Document
from araio.train.reason.rollout import Answer

__all__ = ["PolicyBatch", "Scored", "pack"]


@dataclass(frozen=True)
class Scored:
    """An answer that the weights are to learn from: its prompt, and how much better it was than its group."""

    prompt: list[int]
    answer: Answer
    advantage: float

    @property
    def tokens(self) -> int:
        """Of prompt and answer."""
        return len(self.prompt) + len(self.answer.ids)

    @property
    def document(self) -> Document:
        """Prompt and answer, of which the answer is learned from."""
        return Document([*self.prompt, *self.answer.ids], len(self.prompt))


@dataclass(frozen=True)
class PolicyBatch:
    """Some rows of whole answers.

    batch      as in training; its labels are the answers' tokens, n in all
    sequence   (n,) int64 number of each label's answer in the update
    behaviour  (n,) float32 log-probability of each label when it was drawn
    routes     (B, T, M, K) int64 experts that each token had then; -1 for the last one of an answer, which
               has not run, and for padding
    """

    batch: Batch
    sequence: Tensor
    behaviour: Tensor
    routes: Tensor

    def to(self, device: torch.device) -> PolicyBatch:
        return PolicyBatch(
            self.batch.to(device),
            self.sequence.to(device),
            self.behaviour.to(device),
            self.routes.to(device),
        )


def pack(scored: Sequence[Scored], rows: int, length: int, pad: int) -> list[PolicyBatch]:
    """All answers in batches of at most `rows` rows of `length` tokens, in which each of them fits."""
    packed: list[list[int]] = []
    free: list[int] = []
    # The longest first, each into the fullest row that has room: short ones fill what long ones leave.
    for number in sorted(range(len(scored)), key=lambda number: -scored[number].tokens):
        size = scored[number].tokens
        assert size <= length, "problems are drawn so that prompt and answer fit into a row"
        fitting = [row for row in range(len(packed)) if free[row] >= size]
        if not fitting:
            fitting = [len(packed)]
            packed.append([])
            free.append(length)
        row = min(fitting, key=free.__getitem__)
        packed[row].append(number)
        free[row] -= size
    return [
        _batch(scored, packed[start : start + rows], length, pad) for start in range(0, len(packed), rows)
    ]


class _Answers:
    """Prompts with their answers, as a stream of batches takes them."""

    def __init__(self, documents: Sequence[Document], pad: int) -> None:
        self._documents = documents
        self.pad = pad

    def draw(self, rng: Random) -> Document:
        return rng.choice(self._documents)


def _batch(scored: Sequence[Scored], packed: list[list[int]], length: int, pad: int) -> PolicyBatch:
    rows = [[scored[number].document for number in row] for row in packed]
    answers = _Answers([document for row in rows for document in row], pad)
    batch = BatchStream(answers, len(rows), length, seed=0).collate(rows)
    order = [number for row in packed for number in row]
    layers, top_k = scored[order[0]].answer.routes.shape[1:]
    routes = np.full((len(packed), length, layers, top_k), -1, dtype=np.int64)
    for place, row in enumerate(packed):
        start = 0
        for number in row:
            ran = scored[number].answer.routes
            routes[place, start : start + len(ran)] = ran
            start += scored[number].tokens
    assert int((batch.labels != IGNORE).sum()) == sum(len(scored[number].answer.ids) for number in order)
    lengths = torch.tensor([len(scored[number].answer.ids) for number in order])
    return PolicyBatch(
        batch,
        torch.repeat_interleave(torch.tensor(order), lengths),
        torch.from_numpy(np.concatenate([scored[number].answer.logprobs for number in order])),
        torch.from_numpy(routes),
    )
