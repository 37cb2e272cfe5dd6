"""`record`: prompts asked of a model that is being recorded, many at a time, each in its own domain.

Read `prompts.py` for where prompts come from, `api/recording.py` for the recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from araio.api import Model
from araio.api.recording import Recording
from araio.engine.generation import Generation
from araio.errors import CacheFullError, RequestError, TextError
from araio.eval.accuracy import check_counts
from araio.eval.prompts import Prompt

__all__ = ["Recorded", "record"]


@dataclass
class Recorded:
    """What came of the prompts.

    answered  prompts with an answer, cut off or not
    cut_off   answers among them that ended at their limit
    skipped   prompts that could not be asked, with the reason
    """

    answered: int = 0
    cut_off: int = 0
    skipped: list[tuple[Prompt, str]] = field(default_factory=list)


def record(
    model: Model,
    recording: Recording,
    prompts: Sequence[Prompt],
    *,
    domain: str = "all",
    batch: int = 16,
    max_tokens: int = 2048,
    seed: int = 0,
    recorded: Recorded | None = None,
    on_answer: Callable[[], None] = lambda: None,
    on_step: Callable[[], None] = lambda: None,
) -> Recorded:
    """Ask all prompts within a recording that runs, until it is full.

    domain     of prompts that have none of their own
    batch      prompts that run together, as far as the engine lets them
    seed       the first prompt's; each has its own
    recorded   where to count, for who wants to know after an interruption
    on_answer  called behind each prompt that is done with
    on_step    called behind each step of the engine

    Raises:
        RequestError: a number below 1.
        GenerationError: the model's output is not a number.
    """
    check_counts(batch=batch, max_tokens=max_tokens)
    recorded = Recorded() if recorded is None else recorded
    waiting, running = deque(enumerate(prompts, seed)), list[Generation]()
    try:
        while (waiting or running) and not recording.is_full:
            while waiting and len(running) < batch:
                number, prompt = waiting.popleft()
                try:
                    generation = model.prepare(prompt.messages, max_tokens=max_tokens, seed=number)
                except (RequestError, TextError, CacheFullError) as error:
                    recorded.skipped.append((prompt, str(error)))
                    on_answer()
                    continue
                recording.assign(generation, prompt.domain or domain)
                running.append(generation)
                model.engine.enter(generation.job)
            model.engine.step()
            on_step()
            for generation in [entry for entry in running if entry.job.is_done]:
                running.remove(generation)
                _count(generation, recorded)
                on_answer()
    finally:
        for generation in running:
            model.engine.cancel(generation.job)
    return recorded


def _count(generation: Generation, recorded: Recorded) -> None:
    job = generation.job
    if job.error is not None:
        raise job.error
    recorded.answered += 1
    recorded.cut_off += job.tokens[-1].finish_reason == "length"
