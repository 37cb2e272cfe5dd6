"""What a step of reinforcing, or of sampling, did: one line of `metrics.jsonl` each.

A line holds all that the next steps need to know of the last ones, so a run that goes on reads its log and
needs no other file. Read `train/metrics.py` for the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from araio.train.reason.curriculum import Tallies

__all__ = ["ReinforceReport", "SampleReport", "mean"]


@dataclass(frozen=True)
class ReinforceReport:
    """One step of reinforcing; the fields are the keys of the line.

    reward             mean over all answers that were judged
    pass_at_1          share of the answers that are right
    pass_at_group      share of the problems with a right answer among their group's
    well_formed        share of the answers that are well formed
    response_tokens    mean of all answers
    cut_off            share of the answers that were cut at their limit
    entropy            mean of the policy where it drew a token, in nats
    clip_fraction      share of the tokens that the clip kept from moving the weights
    without_signal     share of the groups whose rewards are all equal, which teach nothing
    groups             that were learned from
    kl                 mean to the reference, estimated from the drawn tokens; 0 without one
    logprob_difference, largest_logprob_difference  of a token between trainer and engine, absolute, mean and
                       largest: rounding, and what updates before this one have moved
    routing_agreement  share of the engine's choices of experts that the trainer would make again
    skipped            answers that could not be judged, for a verifier raised
    answers            that were judged
    tokens             that were drawn; `learned_tokens` those of them that were learned from
    seconds            of the step; `handover_s` of giving the weights to the engine, `sampling_s`, and
                       `learning_s`
    tallies            by level, answers that were right, and all
    notes              what a person should know of the step
    """

    step: int
    steps: int
    stage: str
    kind: str
    reward: float
    pass_at_1: float
    pass_at_group: float
    well_formed: float
    response_tokens: float
    cut_off: float
    entropy: float
    clip_fraction: float
    without_signal: float
    groups: int
    kl: float
    logprob_difference: float
    largest_logprob_difference: float
    routing_agreement: float
    skipped: int
    answers: int
    learning_rate: float
    gradient_norm: float
    tokens: int
    learned_tokens: int
    seconds: float
    handover_s: float
    sampling_s: float
    learning_s: float
    tallies: Tallies
    notes: Sequence[str]
    joules: float
    joules_low: float
    joules_high: float
    joules_method: str

    @property
    def text(self) -> str:
        """The few numbers that a person watches."""
        return (
            f"reward {self.reward:.3f} · pass@1 {self.pass_at_1:.1%} · pass@G {self.pass_at_group:.1%} · "
            f"{self.response_tokens:.0f} tokens · entropy {self.entropy:.3f} · "
            f"{self.without_signal:.0%} without signal · {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class SampleReport:
    """One step of sampling; the fields are the keys of the line.

    problems  that were asked, `solved` those with a right answer
    kept      answers that were written to the file of the stage
    pass_at_1, answers, skipped, tokens, seconds, tallies, notes  as in `ReinforceReport`
    """

    step: int
    steps: int
    stage: str
    kind: str
    problems: int
    solved: int
    kept: int
    pass_at_1: float
    answers: int
    skipped: int
    tokens: int
    seconds: float
    tallies: Tallies
    notes: Sequence[str]
    joules: float
    joules_low: float
    joules_high: float
    joules_method: str

    @property
    def text(self) -> str:
        """The few numbers that a person watches."""
        return (
            f"pass@1 {self.pass_at_1:.1%} · {self.solved} of {self.problems} problems solved · "
            f"{self.kept} answers kept · {self.seconds:.1f} s"
        )


def mean(values: Iterable[float]) -> float:
    """Of all values; 0 where there are none."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
