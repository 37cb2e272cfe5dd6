"""`vote`: several answers to one question, and the one that most of them come to.

Self-consistency (Wang et al. 2022, arXiv 2203.11171): a question has many ways to its right answer and each
wrong one few, so what independent samples agree on is right more often than any of them. How many agree says
how sure that is. The samples share the prompt's cache and run together. Read `text/final_answer.py` for when
two answers are one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from araio.api.together import run_together
from araio.engine.answer import Answer
from araio.engine.forms import ChatOptions
from araio.engine.request import MAX_SEED
from araio.errors import RequestError
from araio.json_reader import shown
from araio.text.final_answer import final_answer

if TYPE_CHECKING:
    from araio.api.model import Messages, Model

__all__ = ["MOST_VOTES", "VOTING_TEMPERATURE", "Votes", "check_votes", "count_votes", "vote"]

MOST_VOTES = 256

OPTIONS = frozenset(field.name for field in fields(ChatOptions))
"""Keywords that say what an answer must be, and not how its tokens are chosen."""

VOTING_TEMPERATURE = 0.8
"""Where neither the request nor the checkpoint draws tokens: without chance all votes are one."""


@dataclass(frozen=True)
class Votes:
    """What several answers come to.

    answer      the first of those that say what most say
    candidates  all of them, in the order of their seeds
    tally       what they come to, by how many say so; of equally many first what was said first. Answers that
                were cut off, or are empty, have no vote
    seed        of the first; that of each next one is larger by 1
    """

    answer: Answer
    candidates: tuple[Answer, ...]
    tally: tuple[tuple[str, int], ...]
    seed: int

    @property
    def agreement(self) -> int:
        """How many say what `answer` says; 0 if nobody had a vote."""
        return self.tally[0][1] if self.tally else 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `araio run --votes N --json`: that of the answer, and the votes."""
        votes = {
            "n": len(self.candidates),
            "agreement": self.agreement,
            "seed": self.seed,
            "tally": [{"answer": text, "votes": count} for text, count in self.tally],
            "candidates": [candidate.to_dict() for candidate in self.candidates],
        }
        return {**self.answer.to_dict(), "votes": votes}


def vote(
    model: Model,
    messages: Messages,
    n: int,
    on_answer: Callable[[], None] = lambda: None,
    **sampling: Any,
) -> Votes:
    """Answer `n` times and count; see `Model.vote`."""
    check_votes(n)
    if "temperature" not in sampling and not model.generation_defaults.get("temperature"):
        sampling["temperature"] = VOTING_TEMPERATURE
    seed = sampling.pop("seed", None)
    if seed is None:
        seed = SystemRandom().randrange(MAX_SEED - n)
    options = {name: sampling.pop(name) for name in OPTIONS & set(sampling)}
    samplings = [{**sampling, "seed": seed + place} for place in range(n)]
    generations = model.prepare_choices(messages, samplings, **options)
    run_together(model.engine, generations, on_done=lambda place: on_answer(), is_one_prompt=True)
    return count_votes([generation.answer() for generation in generations], seed)


def check_votes(n: object) -> None:
    """Refuse what is no number of votes; raises RequestError."""
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST_VOTES:
        raise RequestError(f"votes is {shown(n)}; expected an integer from 1 to {MOST_VOTES}", param="votes")


def count_votes(candidates: Sequence[Answer], seed: int = 0) -> Votes:
    """What most of some answers, at least one, come to; ties go to what was said first."""
    said = [final_answer(one.content) if one.finish_reason != "length" else "" for one in candidates]
    tally = Counter(text for text in said if text).most_common()  # in order of first appearance among equals
    winner = said.index(tally[0][0]) if tally else 0
    return Votes(candidates[winner], tuple(candidates), tuple(tally), seed)
