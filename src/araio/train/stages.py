"""The stages of a recipe, one class a kind: learn from text, reinforce what was right, sample to learn from.

A stage is a stretch of steps with settings of its own. R1's pipeline is a list of them: learn, reinforce,
sample, learn, reinforce (arXiv 2501.12948, section 2.3). Each refuses what is out of range by name. Read
`recipe.py` for the whole, `loop.py` and `reason/` for what a step does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from araio.train.recipe_table import is_share, require
from araio.train.tasks import TASKS

__all__ = ["KINDS", "OBJECTIVE_NAMES", "PROSE", "AnyStage", "ReinforceStage", "SampleStage", "Stage"]

PROSE = "prose"
"""The one name in a mix that is no task family: plain text from a folder."""
OBJECTIVE_NAMES = ("grpo", "dr_grpo", "dapo", "gspo")
"""Those of `reason/objectives.py`, which needs PyTorch; a recipe is read without it."""


@dataclass(frozen=True)
class Stage:
    """A stretch of steps that learn from documents, with one mixture, row length and schedule.

    The learning rate goes from `learning_rate` to `final_learning_rate` along half a cosine, or stays where
    there is none. `mix` gives each task family, and "prose", its share of the tokens; they need not sum to 1.
    `beyond` gives shares to problems outside of the trained ranges, from the half that is never tested.
    `samples` names an earlier stage of the kind "sample", whose answers get the share `samples_share`.

    list_tokens    shortest and longest list of `recall`, in its approximate tokens; its own range if None
    position_span  lists of `recall` are read as if they reached up to this position; see `positions.py`
    """

    kind: ClassVar[str] = "learn"

    name: str
    steps: int
    rows: int
    sequence_length: int
    learning_rate: float
    mix: Mapping[str, float] = field(default_factory=dict)
    final_learning_rate: float | None = None
    mtp_weight: float = 0.3
    balance_speed: float = 0.001
    balance_weight: float = 0.0001
    expert_pool: Sequence[int] | None = None
    beyond: Mapping[str, float] = field(default_factory=dict)
    samples: str | None = None
    samples_share: float = 1.0
    list_tokens: Sequence[int] | None = None
    position_span: int | None = None

    def check(self) -> None:
        check_counts(self, "steps", "rows", "sequence_length")
        check_learning_rates(self)
        check_ranges(self, 0, 10, "mtp_weight", "balance_speed", "balance_weight")
        where = f"stage {self.name!r}:"
        require(is_share(self.samples_share), f"{where} samples_share", self.samples_share, "at least 0")
        check_mix(self, [*TASKS, PROSE], has_more=self.samples is not None)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step 0 to `steps - 1` of this stage."""
        return along_cosine(self.learning_rate, self.final_learning_rate, step / max(self.steps - 1, 1))


@dataclass(frozen=True)
class ReinforceStage:
    """A stretch of steps that reinforce those answers that were rewarded; read `reason/reinforce.py`.

    A step asks `prompts` problems `samples` times each. `mix` and `beyond` give the families' shares of the
    problems, in and outside of the trained ranges.

    max_tokens        of an answer, its reasoning included; what is longer is cut and gets no reward
    rows, sequence_length  of the batches that the gradient is computed in
    objective         one of `OBJECTIVE_NAMES`
    clip_low, clip_high  how far a ratio may fall below and rise above 1; the objective's own if None
    updates           of the weights from the answers of one step; 1 is on-policy
    replay            use the experts that the answers were written with while learning from them
    kl_weight         of the distance to the reference, which is the policy as it began
    reference_every   steps after which the policy becomes its own reference; 0 keeps the first one
    format_reward     for an answer that is well formed, right or not; a right one gets 1 on top
    language_reward   times the share of the reasoning's words that are plain English letters
    overlong_tokens   the last so many of `max_tokens` are taken off the reward, up to 1 (DAPO, equation 13)
    draws             how often problems are drawn anew in place of those that taught nothing
    learnable         between these pass rates a level of problems is drawn always, else at `other_share`
    mtp_weight        of the MTP module's own loss, which keeps its drafts close and moves nothing else
    """

    kind: ClassVar[str] = "reinforce"

    name: str
    steps: int
    prompts: int
    samples: int
    max_tokens: int
    learning_rate: float
    mix: Mapping[str, float] = field(default_factory=dict)
    beyond: Mapping[str, float] = field(default_factory=dict)
    final_learning_rate: float | None = None
    rows: int = 16
    sequence_length: int = 512
    objective: str = "dapo"
    clip_low: float | None = None
    clip_high: float | None = None
    updates: int = 1
    replay: bool = False
    kl_weight: float = 0.0
    reference_every: int = 0
    format_reward: float = 0.1
    language_reward: float = 0.0
    overlong_tokens: int = 0
    draws: int = 3
    learnable: Sequence[float] = (0.1, 0.9)
    other_share: float = 0.1
    mtp_weight: float = 0.1

    def check(self) -> None:
        where = f"stage {self.name!r}:"
        check_counts(
            self, "steps", "prompts", "max_tokens", "rows", "sequence_length", "updates", "draws", floor=1
        )
        check_counts(self, "samples", floor=2)
        check_counts(self, "reference_every", "overlong_tokens", floor=0)
        check_learning_rates(self)
        check_mix(self, [*TASKS])
        check_ranges(self, 0, 10, "kl_weight", "format_reward", "language_reward", "mtp_weight")
        check_ranges(self, 0, 1, "other_share")
        require(
            self.objective in OBJECTIVE_NAMES,
            f"{where} objective",
            self.objective,
            "one of " + ", ".join(OBJECTIVE_NAMES),
        )
        for key in ("clip_low", "clip_high"):
            value = getattr(self, key)
            require(value is None or 0 < value < math.inf, f"{where} {key}", value, "a number above 0")
        check_room(self)
        require(
            self.overlong_tokens <= self.max_tokens,
            f"{where} overlong_tokens",
            self.overlong_tokens,
            f"at most max_tokens = {self.max_tokens}",
        )
        require(
            self.updates <= self.prompts,
            f"{where} updates",
            self.updates,
            f"at most prompts = {self.prompts}",
        )
        band = self.learnable
        require(
            len(band) == 2 and all(is_share(rate) for rate in band) and band[0] < band[1] <= 1,
            f"{where} learnable",
            band,
            "two pass rates from 0 to 1, the smaller one first",
        )

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step 0 to `steps - 1` of this stage."""
        return along_cosine(self.learning_rate, self.final_learning_rate, step / max(self.steps - 1, 1))


@dataclass(frozen=True)
class SampleStage:
    """A stretch of steps that write answers to learn from and move no weight; read `reason/harvest.py`.

    A step asks `prompts` problems `samples` times each and keeps, of each problem, the `keep` shortest of
    the right answers. `teacher` is who answers: a bundled model or a checkpoint's folder; the model that is
    being trained if None.
    """

    kind: ClassVar[str] = "sample"

    name: str
    steps: int
    prompts: int
    samples: int
    max_tokens: int
    mix: Mapping[str, float] = field(default_factory=dict)
    beyond: Mapping[str, float] = field(default_factory=dict)
    keep: int = 1
    teacher: str | None = None
    sequence_length: int = 512

    def check(self) -> None:
        is_file_name = re.fullmatch(r"[\w-][\w.-]*", self.name) is not None
        require(is_file_name, "name of a stage that samples", self.name, "letters, digits, '-', '_' and '.'")
        check_counts(self, "steps", "prompts", "samples", "max_tokens", "keep", "sequence_length")
        check_mix(self, [*TASKS])
        check_room(self)

    def learning_rate_at(self, step: int) -> float:
        """Nothing is learned."""
        return 0.0


AnyStage: TypeAlias = Stage | ReinforceStage | SampleStage

KINDS: dict[str, type[AnyStage]] = {kind.kind: kind for kind in (Stage, ReinforceStage, SampleStage)}


def along_cosine(first: float, last: float | None, progress: float) -> float:
    """From `first` at progress 0 to `last` at 1 along half a cosine."""
    end = first if last is None else last
    return end + (first - end) * 0.5 * (1 + math.cos(math.pi * progress))


def check_counts(stage: Any, *keys: str, floor: int = 1) -> None:
    for key in keys:
        value = getattr(stage, key)
        expected = f"an integer above {floor - 1}" if floor else "an integer of at least 0"
        require(value >= floor, f"stage {stage.name!r}: {key}", value, expected)


def check_ranges(stage: Any, low: float, high: float, *keys: str) -> None:
    for key in keys:
        value = getattr(stage, key)
        require(low <= value <= high, f"stage {stage.name!r}: {key}", value, f"{low} to {high}")


def check_learning_rates(stage: Any) -> None:
    where, rate, final = f"stage {stage.name!r}:", stage.learning_rate, stage.final_learning_rate
    require(0 < rate < 1, f"{where} learning_rate", rate, "above 0 and below 1")
    require(final is None or 0 <= final < 1, f"{where} final_learning_rate", final, "0 to below 1")


def check_mix(stage: Any, known: Sequence[str], *, has_more: bool = False) -> None:
    """Refuse unknown families, shares that are none, and no share at all.

    has_more  something else than `mix` and `beyond` has a share
    """
    where = f"stage {stage.name!r}:"
    for key, shares, names in (("mix", stage.mix, known), ("beyond", stage.beyond, [*TASKS])):
        for family, share in shares.items():
            require(family in names, f"{where} {key}", family, "families among " + ", ".join(names))
            require(is_share(share), f"{where} {key}.{family}", share, "a share of at least 0")
    total = sum(stage.mix.values()) + sum(stage.beyond.values())
    require(has_more or total > 0, f"{where} mix", dict(stage.mix), "at least one family above 0")


def check_room(stage: Any) -> None:
    require(
        stage.max_tokens < stage.sequence_length,
        f"stage {stage.name!r}: max_tokens",
        stage.max_tokens,
        f"less than sequence_length = {stage.sequence_length}, which the question is part of",
    )
