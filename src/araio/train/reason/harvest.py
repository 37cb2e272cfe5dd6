"""`Harvest`: one step of rejection sampling: problems are answered, and the shortest right answers are kept.

They go, as text, to `samples/STAGE.jsonl` in the run's folder, a line each with the step that it is of; a run
that goes on drops the lines behind its state and writes them again. R1 made its second set of examples so
(arXiv 2501.12948, section 2.3.3); with a teacher that is another model, it is distillation (section 2.4).
Read `samples.py` for who learns from them.
"""

from __future__ import annotations

import time
from random import Random

from araio.errors import TrainingError
from araio.kernels.select import select
from araio.nn.model import Model
from araio.text.tokenizer import Tokenizer
from araio.train.data import Encoder
from araio.train.metrics import MetricsLog
from araio.train.reason.asking import Asker, Judged, JudgedGroup
from araio.train.reason.handover import engine_model
from araio.train.reason.problems import Problems
from araio.train.reason.reports import SampleReport, mean
from araio.train.reason.rewards import Rewards
from araio.train.reason.run import Run
from araio.train.reason.samples import Sample, samples_path
from araio.train.stages import SampleStage
from araio.weights.load import load_model
from araio.weights.locate import locate

__all__ = ["Harvest", "shortest_right"]


class Harvest:
    """A stage of sampling.

    step  that the run stands at; lines of later ones are dropped from the file

    Raises TrainingError for a file that is none of ours, and what `locate` and `load_model` raise for a
    teacher that is not there.
    """

    def __init__(self, run: Run, stage: SampleStage, step: int) -> None:
        self.run, self.stage = run, stage
        self.ops = select().ops
        self._teacher: Model | None = None
        tokenizer = run.tokenizer
        if stage.teacher is not None:
            folder = locate(stage.teacher)
            self._teacher = load_model(folder, self.ops)
            tokenizer = Tokenizer.from_folder(folder)
        encoder = Encoder(tokenizer)
        longest = stage.sequence_length - stage.max_tokens
        self.asker = Asker(
            Problems(encoder, stage.mix, stage.beyond, longest),
            Rewards(encoder, stage.max_tokens),
            stage.samples,
            run.meter,
        )
        path = samples_path(run.folder, stage.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{path.parent}: cannot be created ({error.strerror})") from None
        self.log = MetricsLog(path)
        self.log.forget_after(step)

    def step(self, step: int, within: int) -> SampleReport:
        """Do step `step` of the run, number `within` of the stage, both from 0.

        Raises:
            RecipeError: a family's questions leave no room for an answer.
            TrainingError: the file cannot be written.
        """
        started = time.perf_counter()
        network = self._teacher or engine_model(self.run.model, self.ops)
        rng = Random(f"{self.run.seed} {self.stage.name} {within}")
        asked = self.asker.ask(network, self.stage.prompts, rng)
        kept = [
            _sample(step + 1, group, judged)
            for group in asked.groups
            for judged in shortest_right(group, self.stage.keep)
        ]
        for sample in kept:
            self.log.append(sample)
        energy = self.run.energy()
        return SampleReport(
            step=step + 1,
            steps=self.run.steps,
            stage=self.stage.name,
            kind=self.stage.kind,
            problems=len(asked.groups),
            solved=sum(group.is_solved for group in asked.groups),
            kept=len(kept),
            pass_at_1=mean(judged.verdict.is_right for judged in asked.answers),
            answers=len(asked.answers),
            skipped=len(asked.faults),
            tokens=asked.tokens,
            seconds=time.perf_counter() - started,
            tallies=asked.tallies,
            notes=asked.notes,
            joules=energy.joules,
            joules_low=energy.low,
            joules_high=energy.high,
            joules_method=energy.method,
        )

    def saved(self, step: int) -> None:
        """The run's state is now that after `step` steps; the file has their lines already."""


def shortest_right(group: JudgedGroup, count: int) -> list[Judged]:
    """The right answers of a group with the fewest tokens, no two with the same text."""
    kept: dict[tuple[str, str], Judged] = {}
    for judged in sorted(group.answers, key=lambda judged: len(judged.answer.ids)):
        if judged.verdict.is_right:
            kept.setdefault((judged.verdict.reasoning, judged.verdict.content), judged)
    return list(kept.values())[:count]


def _sample(step: int, group: JudgedGroup, judged: Judged) -> Sample:
    return Sample(
        step=step,
        task=group.problem.example.task,
        level=group.problem.level,
        prompt=group.problem.example.prompt,
        reasoning=judged.verdict.reasoning,
        answer=judged.verdict.content,
        tokens=len(judged.answer.ids),
    )
