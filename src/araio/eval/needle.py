"""A needle in a haystack: which of many lines a model still finds, by length and by depth.

For each length there is one text with needles at all depths, and one question for each needle. The first
question reads the text; all others find it in the engine's cache, so a length costs one prefill, whatever is
asked. Answers are kept in a file as they come, and what is in it is not asked again. Needles of one length
share their text: a cell's answers are less independent than its interval says.

Read `haystack.py` for the texts, `wilson.py` for the interval.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from araio.api import Model
from araio.engine.answer import Answer
from araio.errors import RequestError
from araio.eval.accuracy import Score, check_counts
from araio.eval.haystack import Haystack, HaystackKind, Needle, build_haystack
from araio.train.tasks.answers import normalize

__all__ = ["RESERVED", "Asked", "NeedleReport", "NeedleSettings", "measure_needles", "prefill_cost"]

RESERVED = 128
"""Tokens of a length that the question, its answer and the chat format have."""
MAX_TOKENS = 96
EVEN_TOKENS = 16_384
"""Where attention costs about as much as all the rest; for estimating the time left, and nothing else."""


@dataclass(frozen=True)
class NeedleSettings:
    """What is asked, of which a file of answers holds one.

    lengths    tokens that the context holds, the question and its answer included
    depths     places from the first line to the last
    per_cell   needles of each length and depth
    """

    lengths: tuple[int, ...]
    depths: int = 11
    per_cell: int = 4
    haystack: HaystackKind = "list"
    seed: int = 0

    def check(self, context: int) -> None:
        """Raises RequestError for a count below 1, fewer than 2 depths, or a length that cannot be."""
        check_counts(n=self.per_cell)
        if self.depths < 2:
            raise RequestError(f"depths is {self.depths}; expected 2 or more, the first line and the last")
        for length in self.lengths:
            if not 2 * RESERVED <= length <= context:
                raise RequestError(
                    f"a needle length is {length}; expected {2 * RESERVED} to {context}, the model's context"
                )


@dataclass(frozen=True)
class Asked:
    """One question and what came of it.

    number         of the needle within its length
    tokens         of the whole prompt
    cached_tokens  of those that were found in the engine's cache
    """

    length: int
    number: int
    depth: float
    is_correct: bool
    tokens: int
    cached_tokens: int
    seconds: float


@dataclass(frozen=True)
class NeedleReport:
    """All that was asked, in order."""

    model: str
    settings: NeedleSettings
    asked: tuple[Asked, ...]

    def score(self, length: int, depth: float | None = None) -> Score:
        """Answers of one length, or of one of its depths."""
        chosen = [one for one in self.asked if one.length == length and (depth is None or one.depth == depth)]
        return Score(len(chosen), sum(one.is_correct for one in chosen))

    def prompt_tokens(self, length: int) -> int:
        """Of the longest prompt of a length."""
        return max(one.tokens for one in self.asked if one.length == length)

    def computed_tokens(self, length: int) -> int:
        """Of all prompts of a length, those that were not found in the cache."""
        return sum(one.tokens - one.cached_tokens for one in self.asked if one.length == length)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `araio eval --needle --json`."""
        settings = self.settings
        return {
            "model": self.model,
            "haystack": settings.haystack,
            "seed": settings.seed,
            "lengths": [
                {
                    "length": length,
                    "prompt_tokens": self.prompt_tokens(length),
                    "computed_tokens": self.computed_tokens(length),
                    "seconds": sum(one.seconds for one in self.asked if one.length == length),
                    **self.score(length).to_dict(),
                    "depths": [
                        {"depth": depth, **self.score(length, depth).to_dict()}
                        for depth in depths_of(settings)
                    ],
                }
                for length in settings.lengths
            ],
        }


def depths_of(settings: NeedleSettings) -> list[float]:
    return [number / (settings.depths - 1) for number in range(settings.depths)]


def prefill_cost(start: int, end: int) -> float:
    """What running the tokens from `start` to `end` of a prompt costs, in tokens of a short one."""
    return (end - start) * (1 + (end + start) / (2 * EVEN_TOKENS))


def measure_needles(
    model: Model,
    settings: NeedleSettings,
    *,
    answers: Path | None = None,
    on_work: Callable[[float], None] = lambda cost: None,
    on_asked: Callable[[Asked], None] = lambda asked: None,
) -> NeedleReport:
    """Ask for every needle of every length, greedily.

    answers   file that each answer is kept in as it comes; those that it has already are not asked again
    on_work   told what was computed, in the unit of `prefill_cost`: texts of all lengths in all
    on_asked  told each answer, those of the file included

    Raises:
        RequestError: settings out of range, a file of other settings or of another model, or one that cannot
            be written.
        CacheFullError: a text that the engine's cache has no room for.
    """
    settings.check(model.config.max_position_embeddings)
    kept = Kept(answers, model, settings)
    asked: list[Asked] = []
    for length in settings.lengths:
        done = {one.number: one for one in kept.asked if one.length == length}
        if len(done) == settings.depths * settings.per_cell:
            on_work(prefill_cost(0, length))
        for one in ask_length(model, settings, length, done, on_work):
            if one.number not in done:
                kept.add(one)
            asked.append(one)
            on_asked(one)
    return NeedleReport(model.label, settings, tuple(asked))


def ask_length(
    model: Model,
    settings: NeedleSettings,
    length: int,
    done: dict[int, Asked],
    on_work: Callable[[float], None],
) -> Iterator[Asked]:
    """The answers of one length, without computing those of `done`."""
    rng = Random(f"{settings.seed}/needle/{settings.haystack}/{length}")
    depths = depths_of(settings)

    def count(text: str) -> int:
        return len(model.tokenizer.encode(text))

    haystack = build_haystack(settings.haystack, length - RESERVED, depths, settings.per_cell, rng, count)
    for number, needle in enumerate(haystack.needles):
        if number in done:
            yield done[number]
            continue
        started = time.perf_counter()
        answer = ask(model, haystack, needle, on_work)
        usage = answer.usage
        yield Asked(
            length=length,
            number=number,
            depth=needle.depth,
            is_correct=answer.finish_reason == "stop" and normalize(answer.content) == needle.entry.code,
            tokens=usage["prompt_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            seconds=time.perf_counter() - started,
        )


def ask(model: Model, haystack: Haystack, needle: Needle, on_work: Callable[[float], None]) -> Answer:
    """One answer; the engine is stepped here, so that a long prompt shows how far it is."""
    generation = model.prepare(
        haystack.prompt(needle), temperature=0, repetition_penalty=1, max_tokens=MAX_TOKENS
    )
    job = generation.job
    model.engine.enter(job)
    reached: int | None = None
    try:
        while not job.is_done:
            model.engine.step()
            # What the cache had is no work; it is known once the job was admitted.
            before = job.cached_tokens if reached is None else reached
            # A job that has ended holds no positions any more.
            reached = min(job.length or len(job.prompt), len(job.prompt))
            if job.cached_tokens < len(job.prompt) // 2:
                on_work(prefill_cost(before, reached))
    finally:
        model.engine.cancel(job)
    if job.error is not None:
        raise job.error
    while job.tokens:
        generation.take(job.tokens.popleft(), 0.0)
    return generation.answer()


class Kept:
    """Answers in a file, a line each behind one that says what they are answers to; or nowhere.

    A line that was cut off in the middle is dropped.
    """

    def __init__(self, path: Path | None, model: Model, settings: NeedleSettings) -> None:
        self.path = path
        self.asked: list[Asked] = []
        # What may grow between two runs of one file is left out.
        header = {"model": model.label, "routers": model.fingerprint, **asdict(replace(settings, lengths=()))}
        del header["lengths"]
        if path is None:
            return
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            lines = text.splitlines(keepends=True)
            if lines and not lines[-1].endswith("\n"):
                lines.pop()
            if lines:
                self.asked = self.read(path, lines, header)
            path.write_text("".join(lines) or json.dumps(header) + "\n", encoding="utf-8")
        except OSError as error:
            raise RequestError(f"{path}: cannot be written ({error.strerror})") from None

    def read(self, path: Path, lines: Sequence[str], header: dict[str, Any]) -> list[Asked]:
        try:
            found, *rows = [json.loads(line) for line in lines]
            asked = [Asked(**row) for row in rows]
        except (ValueError, TypeError) as error:
            raise RequestError(f"{path}: is no file of answers ({error}); name another one") from None
        if found != header:
            raise RequestError(
                f"{path}: holds answers of another model or to other questions; name another file, or "
                "remove it"
            )
        return asked

    def add(self, one: Asked) -> None:
        self.asked.append(one)
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(one)) + "\n")
        except OSError as error:
            raise RequestError(f"{self.path}: cannot be written ({error.strerror})") from None
