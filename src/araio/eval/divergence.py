"""What a change of the weights costs: `divergence` runs two models over the same tokens and compares them.

Made for a quantised model against the one it came from. Both see each token after the same true text, so an
early difference does not grow, and every position of the text is one measurement. Read `accuracy.py` for
what the difference does to answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.api import Model
from araio.errors import RequestError
from araio.text.deepseek import END_THINK
from araio.text.tokenizer import Span
from araio.train.tasks import TASKS

__all__ = ["Divergence", "compare", "divergence", "task_sequences", "text_sequences"]

WINDOW = 512
"""Most tokens of one piece of plain text; each piece starts without memory of the one before."""

# Rows of logits that are compared at once: a vocabulary of 129,280 in float64 takes 1 MB a row.
ROWS = 64


@dataclass(frozen=True)
class Divergence:
    """How far a model's next-token distribution is from its reference's, over `tokens` positions.

    mean_kl, p99_kl, max_kl  of KL(reference || model), in nats
    top1_agreement           share of positions where both find the same token the most likely
    perplexity               of the true next tokens, of each of the two
    """

    model: str
    reference: str
    tokens: int
    mean_kl: float
    p99_kl: float
    max_kl: float
    top1_agreement: float
    perplexity: float
    reference_perplexity: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `araio eval --kl --json`."""
        return asdict(self)


def divergence(
    model: Model,
    reference: Model,
    sequences: Sequence[Sequence[int]],
    on_sequence: Callable[[], None] | None = None,
) -> Divergence:
    """Compare two models on token sequences.

    on_sequence  called after each sequence

    Raises:
        RequestError: vocabularies of different sizes, or nothing to compare on.
        GenerationError: logits that are not finite.
    """
    sizes = model.config.vocab_size, reference.config.vocab_size
    if sizes[0] != sizes[1]:
        raise RequestError(
            f"{model.name} has a vocabulary of {sizes[0]} tokens and {reference.name} one of {sizes[1]}; "
            "only models with the same vocabulary can be compared"
        )
    if not any(len(ids) > 1 for ids in sequences):
        raise RequestError("there is nothing to compare on; give a text of at least two tokens")
    started = time.perf_counter()
    columns: list[npt.NDArray[np.float64]] = []
    for ids in sequences:
        columns.extend(compare(model.logits(ids), reference.logits(ids), np.asarray(ids)))
        if on_sequence is not None:
            on_sequence()
    kl, agrees, loss, reference_loss = np.concatenate(columns, axis=1)
    return Divergence(
        model.label,
        reference.label,
        len(kl),
        float(kl.mean()),
        float(np.quantile(kl, 0.99)),
        float(kl.max()),
        float(agrees.mean()),
        math.exp(loss.mean()),
        math.exp(reference_loss.mean()),
        time.perf_counter() - started,
    )


def compare(
    logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], ids: npt.NDArray[np.integer]
) -> Iterator[npt.NDArray[np.float64]]:
    """What two models say of the same text, some rows of positions at a time.

    logits, reference  (T, W)
    ids                (T,) or one more than T: the token at each position
    returns            (4, rows) of KL, agreement, and both models' losses of the next token
    """
    for start in range(0, len(ids) - 1, ROWS):
        rows = slice(start, min(start + ROWS, len(ids) - 1))
        ours, theirs = _log_softmax(logits[rows]), _log_softmax(reference[rows])
        kl = (np.exp(theirs) * (theirs - ours)).sum(1)
        agrees = ours.argmax(1) == theirs.argmax(1)
        following = ids[rows.start + 1 : rows.stop + 1, None]
        losses = (-np.take_along_axis(table, following, 1)[:, 0] for table in (ours, theirs))
        yield np.stack([kl, agrees, *losses])


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted: npt.NDArray[np.float64] = logits.astype(np.float64) - logits.max(1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(1, keepdims=True))
    return shifted


def task_sequences(model: Model, tasks: Sequence[str], n: int, seed: int) -> list[list[int]]:
    """The first n test questions of each task with their worked answers, in the model's chat format."""
    sequences = []
    for name in tasks:
        for index in range(n):
            example = TASKS[name].generate(Random(f"{seed}/test/{name}/{index}"), "test")
            asked = model.chat_format.render([{"role": "user", "content": example.prompt}]).ids
            answered = Span(f"{example.reasoning}\n{END_THINK}\n\n{example.answer}", is_trusted=True)
            sequences.append([*asked, *model.tokenizer.encode_spans([answered])])
    return sequences


def text_sequences(model: Model, text: str) -> list[list[int]]:
    """A text in pieces of `WINDOW` tokens or the context, each behind the token that opens a sequence."""
    opening = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
    ids = model.tokenizer.encode(text)
    window = min(WINDOW, model.config.max_position_embeddings - len(opening))
    return [opening + ids[start : start + window] for start in range(0, len(ids), window)]
