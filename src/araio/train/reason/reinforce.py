"""`Reinforce`: one step of reinforcement learning with verifiable rewards, written out in order.

    1. The weights go to the engine (`handover.py`).
    2. Problems are drawn, answered G times each, and judged (`asking.py`); groups whose answers are all worth
       the same are left out and others drawn in their place, a few times at most.
    3. Each answer's advantage is how much better it was than its group (`objectives.py`).
    4. One or a few updates of the weights (`update.py`).

Experts' balancing biases stay as they are: moved by loads of a few hundred answers they would follow noise,
and DeepSeek-V3 froze them for its last 500 billion tokens too. Everything that a step draws depends on the
seed, the stage and the step's number, and on what the curriculum has seen, which the log holds; so a run that
goes on does what an uninterrupted one does. Read `stages.py` for the settings.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from araio.kernels.select import select
from araio.nn.model import Model
from araio.train.data import Encoder
from araio.train.reason.asking import Asked, Asker, JudgedGroup
from araio.train.reason.batch import Scored, pack
from araio.train.reason.curriculum import Curriculum
from araio.train.reason.handover import engine_model
from araio.train.reason.objectives import group_advantages, objective_named
from araio.train.reason.problems import Problems
from araio.train.reason.reference import Reference
from araio.train.reason.reports import ReinforceReport, mean
from araio.train.reason.rewards import Rewards
from araio.train.reason.run import Run
from araio.train.reason.update import Measures, PolicyUpdate
from araio.train.stages import ReinforceStage

__all__ = ["Reinforce"]


@dataclass(frozen=True)
class _Seconds:
    """Where the time of a step went."""

    handover: float
    sampling: float
    learning: float
    whole: float


class Reinforce:
    """A stage of reinforcement.

    history  the log's lines of the steps before, of which those of this stage tell its curriculum
    """

    def __init__(self, run: Run, stage: ReinforceStage, history: Iterable[Mapping[str, Any]] = ()) -> None:
        self.run, self.stage = run, stage
        self.encoder = Encoder(run.tokenizer)
        self.ops = select().ops
        self.objective = objective_named(stage.objective, stage.clip_low, stage.clip_high)
        self.curriculum = Curriculum(stage.learnable, stage.other_share)
        for line in history:
            if line.get("stage") == stage.name:
                self.curriculum.observe(line.get("tallies", {}))
        longest = stage.sequence_length - stage.max_tokens
        self.asker = Asker(
            Problems(self.encoder, stage.mix, stage.beyond, longest),
            Rewards(
                self.encoder,
                stage.max_tokens,
                stage.format_reward,
                stage.language_reward,
                stage.overlong_tokens,
            ),
            stage.samples,
            run.meter,
        )
        self.reference = (
            Reference(run.model, run.folder / "reference", stage.reference_every) if stage.kl_weight else None
        )
        self.updater = PolicyUpdate(
            run.model,
            self.objective,
            stage.max_tokens,
            None if self.reference is None else self.reference.model,
            stage.kl_weight,
            stage.mtp_weight,
            stage.replay,
        )

    def step(self, step: int, within: int) -> ReinforceReport:
        """Do step `step` of the run, number `within` of the stage, both from 0.

        Raises:
            RecipeError: a family's questions leave no room for an answer.
            TrainingError: loss or gradient are no numbers; no weight has moved then.
        """
        started = time.perf_counter()
        if self.reference is not None:
            self.reference.prepare(step, within)
        rng = Random(f"{self.run.seed} {self.stage.name} {within}")
        network = engine_model(self.run.model, self.ops)
        handed_over = time.perf_counter()
        asked = self._ask(network, rng)
        sampled = time.perf_counter()
        taught = [group for group in asked.groups if group.has_signal][: self.stage.prompts]
        measures, gradient_norm = self._learn(taught, rng)
        self.curriculum.observe(asked.tallies)
        ended = time.perf_counter()
        seconds = _Seconds(handed_over - started, sampled - handed_over, ended - sampled, ended - started)
        return self._report(step, within, asked, taught, measures, gradient_norm, seconds)

    def saved(self, step: int) -> None:
        """The run's state is now that after `step` steps: a reference that is older than its own may go."""
        if self.reference is not None:
            self.reference.forget_before(step)

    def _ask(self, network: Model, rng: Random) -> Asked:
        """Groups, as many with a signal as the stage has prompts, or what `draws` draws gave."""
        parts: list[Asked] = []
        wanted = self.stage.prompts
        for _ in range(self.stage.draws):
            parts.append(self.asker.ask(network, wanted, rng, self.curriculum))
            wanted -= sum(group.has_signal for group in parts[-1].groups)
            if wanted <= 0:
                break
        return Asked.joined(parts)

    def _learn(self, groups: Sequence[JudgedGroup], rng: Random) -> tuple[Measures, float]:
        """Update the weights from these groups, in as many parts as the stage has updates; the last norm."""
        measures, gradient_norm = Measures(), 0.0
        shuffled = rng.sample(groups, len(groups))
        updates = min(self.stage.updates, len(groups))
        for part in range(updates):
            scored = [one for group in shuffled[part::updates] for one in self._scored(group)]
            batches = pack(scored, self.stage.rows, self.stage.sequence_length, self.encoder.pad)
            self.updater.accumulate(scored, batches, measures)
            self.run.require_finite("objective", measures.surrogate)
            gradient_norm = self.run.move_weights()
        return measures, gradient_norm

    def _scored(self, group: JudgedGroup) -> list[Scored]:
        rewards = torch.tensor(group.rewards, dtype=torch.float64)
        advantages = group_advantages(rewards, self.objective.divides_by_deviation).tolist()
        return [
            Scored(group.problem.prompt, judged.answer, advantage)
            for judged, advantage in zip(group.answers, advantages, strict=True)
        ]

    def _report(
        self,
        step: int,
        within: int,
        asked: Asked,
        taught: Sequence[JudgedGroup],
        measures: Measures,
        gradient_norm: float,
        seconds: _Seconds,
    ) -> ReinforceReport:
        verdicts = [judged.verdict for judged in asked.answers]
        lengths = [len(judged.answer.ids) for judged in asked.answers]
        energy = self.run.energy()
        return ReinforceReport(
            step=step + 1,
            steps=self.run.steps,
            stage=self.stage.name,
            kind=self.stage.kind,
            reward=mean(verdict.reward for verdict in verdicts),
            pass_at_1=mean(verdict.is_right for verdict in verdicts),
            pass_at_group=mean(group.is_solved for group in asked.groups),
            well_formed=mean(verdict.is_well_formed for verdict in verdicts),
            response_tokens=mean(lengths),
            cut_off=mean(judged.answer.ids[-1] != self.encoder.eos for judged in asked.answers),
            entropy=measures.mean(measures.entropy),
            clip_fraction=measures.mean(measures.clipped),
            without_signal=mean(not group.has_signal for group in asked.groups),
            groups=len(taught),
            kl=measures.mean(measures.kl),
            logprob_difference=measures.mean(measures.difference),
            largest_logprob_difference=measures.largest_difference,
            routing_agreement=measures.agreement.share,
            skipped=len(asked.faults),
            answers=len(verdicts),
            learning_rate=self.stage.learning_rate_at(within),
            gradient_norm=gradient_norm,
            tokens=asked.tokens,
            learned_tokens=measures.tokens,
            seconds=seconds.whole,
            handover_s=seconds.handover,
            sampling_s=seconds.sampling,
            learning_s=seconds.learning,
            tallies=asked.tallies,
            notes=[*asked.notes, *self._shortage(taught)],
            joules=energy.joules,
            joules_low=energy.low,
            joules_high=energy.high,
            joules_method=energy.method,
        )

    def _shortage(self, taught: Sequence[JudgedGroup]) -> list[str]:
        """A note where nothing was learned; fewer groups than wanted are told by numbers alone."""
        if taught:
            return []
        return [
            f"all rewards were equal within each group, in {self.stage.draws} draws of problems: no weight "
            "has moved"
        ]
