"""Lessons as `train/data.py` takes documents: drawn in any order, or in rows for what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from araio.adapt.lessons import Lesson
from araio.train.data import Document

__all__ = ["LessonDocuments", "packed"]


class LessonDocuments:
    """Lessons in any order, as a stream of batches takes them."""

    def __init__(self, lessons: Sequence[Lesson], pad: int) -> None:
        self._documents = [_document(lesson) for lesson in lessons]
        self.pad = pad

    def draw(self, rng: Random) -> Document:
        """Any of them."""
        return rng.choice(self._documents)


def packed(lessons: Sequence[Lesson], length: int) -> list[list[Document]]:
    """Rows of lessons in order, each row as full as the next one leaves it."""
    rows: list[list[Document]] = []
    free = 0
    for lesson in lessons:
        if len(lesson.ids) > free:
            rows.append([])
            free = length
        rows[-1].append(_document(lesson))
        free -= len(lesson.ids)
    return rows


def _document(lesson: Lesson) -> Document:
    return Document(list(lesson.ids), lesson.first_learned)
