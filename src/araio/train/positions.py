"""Positions with skips: short documents that a model reads as if they were long ones.

Attention to what is far away needs rotary angles that a model has seen, and rows as long as a context of 128k
cost too much to train on. So the positions of a short list jump between its lines, at random, until its end
lies as far out as the end of a long one would (positional skip-wise training, arXiv 2309.10400). What it does
not teach is to find one line among as many as a long list has. Read `data.py` for where it is used.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from araio.train.tasks.base import log_uniform

if TYPE_CHECKING:
    from araio.train.data import Document

__all__ = ["MOST_SKIPS", "skip_positions"]

MOST_SKIPS = 8
"""Skips in a document; its lines between two of them keep the distances of a real list."""


def skip_positions(document: Document, line_ends: Collection[int], span: int, rng: Random) -> Document:
    """The document with its end somewhere between where it is and position `span`, lengths log-uniform.

    Skips lie behind tokens of `line_ends` in what is not learned, each as long as chance has it; what is
    learned stays in one piece. A document without such a place, or as long as the span, stays as it is.
    """
    length = len(document.ids)
    places = [i for i in range(1, document.first_learned) if document.ids[i - 1] in line_ends]
    if not places or length >= span:
        return document
    added = log_uniform(rng, length, span) - length
    chosen = sorted(rng.sample(places, rng.randint(1, min(MOST_SKIPS, len(places)))))
    reached = [0, *sorted(rng.randint(0, added) for _ in chosen[1:]), added]
    positions: list[int] = []
    for skipped, start, end in zip(reached, [0, *chosen], [*chosen, length], strict=True):
        positions += range(start + skipped, end + skipped)
    return replace(document, positions=positions)
