"""`SampledDocuments`: documents that a stage of sampling has written, as a stage of learning draws them.

They are text, so a student may have another tokenizer than its teacher. Read `harvest.py` for who writes
them, `setup.py` for how they are mixed with others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from random import Random

from araio.errors import TrainingError
from araio.train.data import Document, Encoder
from araio.train.tasks import Example

__all__ = ["Sample", "SampledDocuments", "read_samples", "samples_path"]


@dataclass(frozen=True)
class Sample:
    """One line of the file: a problem and an answer to it that was right.

    step    of the run, from 1
    level   family and level, as `problems.Problem` has it
    tokens  of the answer, as it was drawn
    """

    step: int
    task: str
    level: str
    prompt: str
    reasoning: str
    answer: str
    tokens: int


def samples_path(folder: Path, stage: str) -> Path:
    """Of the file of a stage in its run's folder."""
    return folder / "samples" / f"{stage}.jsonl"


def read_samples(path: Path) -> list[Sample]:
    """All lines of a file.

    Raises:
        TrainingError: there is no such file, it is empty, or a line is no sample.
    """
    samples: list[Sample] = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            document = json.loads(line)
            samples.append(Sample(**{entry.name: document[entry.name] for entry in fields(Sample)}))
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: line {len(samples) + 1} is no sample ({error}); delete it") from None
    if not samples:
        raise TrainingError(
            f"{path}: holds no sample, for no answer was right; ask easier problems, or more samples of each"
        )
    return samples


class SampledDocuments:
    """The samples of a file, each as likely as another; read when the first one is drawn.

    max_length  longer ones are left out
    """

    def __init__(self, path: Path, encoder: Encoder, max_length: int) -> None:
        self._path, self._encoder, self._max_length = path, encoder, max_length

    @property
    def pad(self) -> int:
        return self._encoder.pad

    @cached_property
    def documents(self) -> Sequence[Document]:
        """All that fit; TrainingError if there are none."""
        documents = [self._encoder.conversation(_example(sample)) for sample in read_samples(self._path)]
        fitting = [document for document in documents if len(document.ids) <= self._max_length]
        if not fitting:
            raise TrainingError(
                f"{self._path}: none of its {len(documents)} samples fits into {self._max_length} tokens; "
                "raise sequence_length"
            )
        return fitting

    @cached_property
    def mean_length(self) -> float:
        """Tokens of a document."""
        return sum(len(document.ids) for document in self.documents) / len(self.documents)

    def draw(self, rng: Random) -> Document:
        return rng.choice(self.documents)


def _example(sample: Sample) -> Example:
    return Example(sample.task, sample.prompt, sample.reasoning, sample.answer, 0, sample.level, {})
