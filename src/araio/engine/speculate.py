"""Speculation: the MTP module drafts a token, the model checks it in the same step as the token before.

A draft is right when the request's own sampler chooses that token, so drafts change how many steps an answer
takes, never its tokens. `Drafter` makes them; `Speculation` decides which requests get them. Read `engine.py`
for where both are called, `nn/mtp.py` for the module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, cast

import numpy as np

from araio.engine.job import Job
from araio.errors import RequestError
from araio.kernels.ops import Int64Array
from araio.nn.batch import Routes, Segment
from araio.nn.model import Model
from araio.nn.mtp import MTPModule
from araio.tensors import Float32Array

__all__ = ["Drafter", "Progress", "Speculate", "Speculation", "check_speculate"]

Speculate: TypeAlias = Literal["auto", "on", "off"]

# Steps until an average counts, and how fast it forgets: half of it is younger than 69 steps.
ENOUGH_STEPS = 16
MEMORY = 0.99

# One request in so many is run the way that seemed slower, for that may change.
CHECK_EVERY = 16


def check_speculate(mode: str) -> Speculate:
    """The mode of that name.

    Raises:
        RequestError: there is none.
    """
    if mode in ("auto", "on", "off"):
        return cast(Speculate, mode)
    raise RequestError(f"speculate is {mode!r}; expected auto, on or off")


class Progress(NamedTuple):
    """What a step did for one request.

    followers  (T,) the token behind each position that was kept
    hidden     (T, D) the model's state there
    is_prompt  the positions belong to the prompt
    """

    job: Job
    followers: Int64Array
    hidden: Float32Array
    is_prompt: bool


class Drafter:
    """Runs the MTP module behind the model, over the same pages."""

    def __init__(self, model: Model, mtp: MTPModule) -> None:
        self._model = model
        self._mtp = mtp

    def draft(self, progress: Sequence[Progress], routes: Routes) -> None:
        """Bring the module up to where its requests are, and leave a draft with each that can use one.

        routes  as in `MTPModule.step`
        """
        segments = []
        for job, followers, _, is_prompt in progress:
            assert job.cache is not None
            behind = job.cache.beside()
            behind.length = job.cache.length - len(followers)
            segments.append(Segment(followers, behind, absorbed=not is_prompt))
        one = len(progress) == 1
        hidden = progress[0].hidden if one else np.concatenate([entry.hidden for entry in progress])
        states = self._mtp.step(segments, hidden, routes)
        ends = np.cumsum([len(entry.followers) for entry in progress]) - 1
        takers = [place for place, entry in enumerate(progress) if entry.job.can_use_draft]
        if not takers:
            return
        drafts = self._model.logits(states[ends[takers]]).argmax(axis=1).tolist()
        for place, draft in zip(takers, drafts, strict=True):
            progress[place].job.draft = draft


@dataclass
class _Cost:
    """Seconds per token, the latest steps weighing most."""

    steps: int = 0
    seconds: float = 0.0
    tokens: float = 0.0

    def add(self, seconds: float, tokens: int) -> None:
        self.steps += 1
        self.seconds = MEMORY * self.seconds + seconds
        self.tokens = MEMORY * self.tokens + tokens

    @property
    def is_known(self) -> bool:
        return self.steps >= ENOUGH_STEPS

    @property
    def per_token(self) -> float:
        return self.seconds / self.tokens


class Speculation:
    """Whether a request drafts, decided once, when it begins.

    "auto" goes by what tokens took in steps with drafts and in steps without, measured here and apart for
    each size of batch (1, 2 to 3, 4 to 7, ...): drafts that are cheap to check for one sequence may not be
    for many. What is not known yet is tried, first without drafts, which a first token need not wait for.
    """

    def __init__(self, mode: Speculate) -> None:
        self._mode = mode
        self._costs: dict[tuple[int, bool], _Cost] = {}
        self._decisions = 0

    def decide(self, requests: int) -> bool:
        """Whether the next request drafts, as one of so many that run."""
        if self._mode != "auto":
            return self._mode == "on"
        drafted, plain = self._cost(requests, True), self._cost(requests, False)
        if not drafted.is_known or not plain.is_known:
            return plain.is_known
        self._decisions += 1
        pays = drafted.per_token < plain.per_token
        return pays if self._decisions % CHECK_EVERY else not pays

    def record(self, requests: int, drafts: bool, seconds: float, tokens: int) -> None:
        """What a step took in which all so many requests were answering, all with drafts or all without."""
        self._cost(requests, drafts).add(seconds, tokens)

    def _cost(self, requests: int, drafts: bool) -> _Cost:
        return self._costs.setdefault((requests.bit_length(), drafts), _Cost())
