"""One training step, written out in order, and the loop around it.

A run lives in one folder: `tokenizer/`, `metrics.jsonl`, `state.safetensors` to resume from, `receipt.json`
with what the run took so far and, at the end, `model/`, the exported checkpoint, with `validation.json`. A
killed run goes on from its last state to the same weights, bit for bit on a CPU: data is a function of the
step, and nothing else is random after initialisation. Stages that reinforce or sample are steps of `reason/`,
driven from here. Read `recipe.py` for what can be asked for, `setup.py` for the data.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.nn.utils import clip_grad_norm_

from araio.costs.tariff import choose_tariff
from araio.errors import TrainingError
from araio.meters.meter import choose_meter
from araio.train.balance import LoadMeter, load_of, update_bias
from araio.train.checkpoint import export_model, load_state, save_state
from araio.train.data import Batch
from araio.train.loss import Loss, compute_loss
from araio.train.metrics import MetricsLog, StepReport
from araio.train.model import SparseModel
from araio.train.optim import build_optimizers
from araio.train.pools import Pools, draw_pools
from araio.train.reason.reports import ReinforceReport, SampleReport
from araio.train.reason.run import Run
from araio.train.reason.steppers import Stepper, stepper_for
from araio.train.receipt import RunReceipt
from araio.train.recipe import Recipe, Stage
from araio.train.setup import make_folder, prepare_streams, prepare_tokenizer
from araio.train.stages import AnyStage, SampleStage
from araio.train.start import load_weights
from araio.train.tokenizer import canonical_json
from araio.train.validate import validate
from araio.weights.locate import locate

__all__ = ["Report", "Trainer", "memory_errors"]

Report: TypeAlias = StepReport | ReinforceReport | SampleReport
"""What a line of the log is made of, by the kind of its stage."""

VALIDATION_BATCHES = 4
"""Batches of each family: some twenty thousand tokens in rows like the bundled model's."""


class Trainer:
    """A run of a recipe in a folder; goes on by itself where the folder holds a state.

    Raises:
        RecipeError: a stage's rows are too short for a family, the vocabulary is too small for a tokenizer,
            or there is no prose where it is asked for.
        TrainingError: the folder cannot be written, or holds a damaged state or that of another recipe.
        CostError: `ARAIO_COUNTRY` or `ARAIO_TDP` is nothing to count with.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, prose_folder: Path | None = None, device: str = "cpu"
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, recipe.dtype)
        make_folder(folder)
        has_state = self.state_path.exists()
        self.tokenizer = prepare_tokenizer(recipe, self.tokenizer_folder, prose_folder, has_state)
        self.streams = prepare_streams(recipe, self.tokenizer, prose_folder, folder)
        with memory_errors("lower the sizes in [model]"):
            self.model = SparseModel(recipe.model, self.dtype)
            self.model.initialise(torch.Generator().manual_seed(recipe.seed))
            if recipe.start_from is not None and not has_state:
                load_weights(self.model, locate(recipe.start_from))
            self.model.to(self.device)
        chosen = recipe.optimizer
        betas = (chosen.beta1, chosen.beta2)
        self.optimizers = build_optimizers(self.model, chosen.name, 0.0, chosen.weight_decay, betas)
        self.meter = LoadMeter()
        self.metrics = MetricsLog(folder / "metrics.jsonl")
        self.joules = choose_meter(gpus=self.device.type == "cuda")
        tariff = choose_tariff(recipe.name, prices="none")
        self.receipt = RunReceipt(folder / "receipt.json", self.joules, tariff)
        self.asking: tuple[int, Stepper] | None = None
        self.step = 0
        if has_state:
            self.step = load_state(self.state_path, self.model, self.optimizers, self.identity())
            self.receipt.resume()
        self.metrics.forget_after(self.step)

    @property
    def stage(self) -> AnyStage:
        """Of the next step."""
        return self.recipe.stages[self.recipe.stage_at(self.step)[0]]

    @property
    def state_path(self) -> Path:
        return self.folder / "state.safetensors"

    @property
    def tokenizer_folder(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"

    def identity(self) -> dict[str, Any]:
        """What may not change between the start of a run and its end; the steps ahead may."""
        recipe = self.recipe
        return {
            "model": recipe.model.to_dict(),
            "optimizer": asdict(recipe.optimizer),
            "seed": recipe.seed,
            "dtype": recipe.dtype,
            "tokenizer": canonical_json(self.tokenizer_folder),
        }

    # ---------------------------------------------------------------- the loop

    def run(self, on_step: Callable[[Report], None], should_stop: Callable[[], bool]) -> bool:
        """Train to the recipe's end and export the model; True if the end was reached.

        on_step      called with every line of the log
        should_stop  asked before every step; when true, the state is saved and the run ends early

        Raises:
            TrainingError: the loss is not finite, or memory or disk is full; the last saved state is kept.
        """
        self.receipt.begin()
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead: Future[Batch] | None = None
            while self.step < self.recipe.steps:
                if should_stop():
                    self.save()
                    return False
                started = time.perf_counter()
                if not isinstance(self.stage, Stage):
                    with memory_errors(self.how_to_save_memory()):
                        self.advance_asking(on_step)
                    continue
                batch = ahead.result() if ahead else self.batch(self.step)
                following = self.step + 1
                ahead = pool.submit(self.batch, following) if self.is_of_this_stage(following) else None
                with memory_errors(self.how_to_save_memory()):
                    self.advance(batch, started, on_step)
        self.export()
        self.write_validation()
        return True

    def advance(self, batch: Batch, started: float, on_step: Callable[[Report], None]) -> None:
        """One step with its log line and its checkpoint, where they are due."""
        loss, gradient_norm = self.train_step(batch)
        seconds = time.perf_counter() - started
        self.step += 1
        self.receipt.count(batch.tokens.numel(), seconds)
        is_last = self.step == self.recipe.steps
        if self.step % self.recipe.log_every == 0 or is_last:
            report = self.report(batch, loss, gradient_norm, seconds)
            self.metrics.append(report)
            on_step(report)
        if self.step % self.recipe.checkpoint_every == 0 or is_last:
            self.save()

    def is_of_this_stage(self, step: int) -> bool:
        """Whether a step can be prepared now: what another stage learns from may not be written yet."""
        return (
            step < self.recipe.steps and self.recipe.stage_at(step)[0] == self.recipe.stage_at(self.step)[0]
        )

    def train_step(self, batch: Batch) -> tuple[Loss, float]:
        """Forward, backward, clip, update the weights, count the experts' loads, move the balancing bias."""
        stage = self.stage
        assert isinstance(stage, Stage)
        loss = compute_loss(
            self.model, batch, stage.mtp_weight, stage.balance_weight, self.pools(batch, stage)
        )
        self.require_finite("loss", loss.total.item())
        torch.autograd.backward(loss.total)
        gradient_norm = self.move_weights()
        loads = [load_of(route, batch.is_token) for route in loss.routes]
        self.meter.add([load_E.cpu() for load_E in loads])
        if self.recipe.model.has_router_bias:
            # Without an MTP loss its router saw nothing, and there are fewer loads than routers.
            for router, load_E in zip(self.model.routers(), loads, strict=False):
                update_bias(router, load_E, stage.balance_speed)
        return loss, gradient_norm

    def move_weights(self) -> float:
        """Clip the gradient, move the weights along it and forget it; its norm before the clip."""
        gradient_norm = float(clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.clip))
        # Before the weights move: a state with a NaN in it must never be saved.
        self.require_finite("gradient norm", gradient_norm)
        learning_rate = self.recipe.learning_rate_at(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return gradient_norm

    # ---------------------------------------------------------------- stages that ask

    def advance_asking(self, on_step: Callable[[Report], None]) -> None:
        """One step of a stage that reinforces or samples; each has its line in the log."""
        stepper = self.stepper()
        report = stepper.step(self.step, self.recipe.stage_at(self.step)[1])
        self.step += 1
        self.receipt.count(report.tokens, report.seconds)
        self.metrics.append(report)
        on_step(report)
        if self.step % self.recipe.checkpoint_every == 0 or self.step == self.recipe.steps:
            self.save()
            stepper.saved(self.step)

    def stepper(self) -> Stepper:
        """What does the steps of the current stage; made at its first one."""
        index, stage = self.recipe.stage_at(self.step)[0], self.stage
        assert not isinstance(stage, Stage)
        if self.asking is None or self.asking[0] != index:
            run = Run(
                self.model,
                self.tokenizer,
                self.folder,
                self.recipe.seed,
                self.recipe.steps,
                self.joules,
                self.receipt.since_line,
                self.move_weights,
                self.require_finite,
            )
            self.asking = index, stepper_for(run, stage, self.metrics, self.step)
        return self.asking[1]

    # ---------------------------------------------------------------- of every step

    def pools(self, batch: Batch, stage: Stage) -> Pools | None:
        """The experts that each document of this step may choose from, if the stage has pools."""
        if stage.expert_pool is None:
            return None
        groups = self.recipe.model.choice_groups
        return draw_pools(batch.documents, stage.expert_pool, groups, self.recipe.seed, self.step)

    def require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} is {value} at step {self.step + 1}; lower the recipe's learning rate and run "
                f"the same command again: it goes on from the last state in {self.folder}"
            )

    def how_to_save_memory(self) -> str:
        stage = self.stage
        rows = stage.prompts if isinstance(stage, SampleStage) else stage.rows
        which = "prompts" if isinstance(stage, SampleStage) else "rows"
        return (
            f"lower {which} or sequence_length of stage {stage.name!r} (now {rows} and "
            f"{stage.sequence_length}) and run the same command again: it goes on from the last state in "
            f"{self.folder}"
        )

    def report(self, batch: Batch, loss: Loss, gradient_norm: float, seconds: float) -> StepReport:
        done = self.step - 1
        energy = self.receipt.since_line()
        return StepReport(
            step=self.step,
            steps=self.recipe.steps,
            stage=self.recipe.stages[self.recipe.stage_at(done)[0]].name,
            loss=loss.next_token.item(),
            mtp_loss=loss.mtp.item(),
            balance_loss=loss.balance.item(),
            learning_rate=self.recipe.learning_rate_at(done),
            gradient_norm=gradient_norm,
            tokens=batch.tokens.numel(),
            learned_tokens=batch.learned_tokens,
            seconds=seconds,
            **asdict(self.meter.take()),
            joules=energy.joules,
            joules_low=energy.low,
            joules_high=energy.high,
            joules_method=energy.method,
        )

    def save(self) -> None:
        """Write the state to resume from, and what it took to come so far."""
        save_state(self.state_path, self.model, self.optimizers, self.step, self.identity())
        self.receipt.save()

    def export(self) -> Path:
        """Write the model as a published checkpoint with its tokenizer; returns the folder."""
        export_model(self.model_folder, self.model, self.dtype)
        shutil.copytree(self.tokenizer_folder, self.model_folder, dirs_exist_ok=True)
        return self.model_folder

    def write_validation(self) -> None:
        """Measure the model on held-out documents in the last stage's shares, into `validation.json`."""
        streams = self.streams
        measured = validate(self.model, streams.validation, streams.validation_mix, VALIDATION_BATCHES)
        text = json.dumps(asdict(measured), indent=2) + "\n"
        (self.folder / "validation.json").write_text(text, encoding="utf-8")

    def batch(self, step: int) -> Batch:
        stream = self.streams.stages[self.recipe.stage_at(step)[0]]
        assert stream is not None, "only stages that learn have batches"
        return stream.batch(step).to(self.device)


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn a lack of memory into a TrainingError with advice; on a CPU, PyTorch has no type for it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        typed = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not (typed or "DefaultCPUAllocator" in str(error)):
            raise
        first_line = (str(error).splitlines() or ["no more to be had"])[0]
        raise TrainingError(f"memory ran out ({first_line}); {advice}") from None
