"""`Tuner`: trains the experts that a domain uses, and nothing else, and saves them as an adapter.

Expert-specialised fine-tuning (ESFT, arXiv 2407.01906): router, attention, shared experts and embeddings stay
as they are, so that the model still chooses what it chose, and what other domains use is hardly touched. For
comparison it trains everything, and writes a whole checkpoint then. A run that is stopped leaves its state
beside the output, in `NAME.partial`, and goes on from there to the same bits on a CPU. Read `lessons.py` for
the data, `relevance.py` for the choice of experts, `weights/adapter.py` for what is saved.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from araio.adapt.lesson_rows import LessonDocuments, packed
from araio.adapt.lessons import Lessons
from araio.adapt.partly_trained import train_only, tuned_tensors
from araio.adapt.tune_settings import TuneReport, TuneSettings
from araio.config import ModelConfig
from araio.costs.tariff import choose_tariff
from araio.errors import AdapterError, TrainingError
from araio.expert_profile import ProfiledModel
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import EXPERT_MATRICES
from araio.meters.meter import choose_meter
from araio.tensors import BFloat16, Float32Array
from araio.text.deepseek import PAD
from araio.text.tokenizer import Tokenizer
from araio.train.checkpoint import export_model, load_state, save_state
from araio.train.data import Batch, BatchStream
from araio.train.loop import memory_errors
from araio.train.loss import compute_loss, cross_entropy
from araio.train.model import SparseModel
from araio.train.optim import build_optimizers
from araio.train.receipt import RunReceipt
from araio.train.start import load_weights
from araio.weights.adapter import Adapter, digest_of
from araio.weights.convert import COPIED_FILES
from araio.weights.load import open_checked
from araio.weights.locate import locate
from araio.weights.routers import stored_fingerprint

__all__ = ["Tuner"]

BETAS, CLIP = (0.9, 0.95), 1.0


class Tuner:
    """A run that writes `out`; goes on by itself where there is a state of the same run beside it.

    name     the model, a checkpoint
    out      folder to write, which must not exist yet
    experts  that are trained, by layer; None trains everything
    tuning   what an adapter shall say of how it was made, beside the settings

    `evaluation` has the loss on what was kept apart, before and, once it is done, after.

    Raises:
        AdapterError: `out` exists, or its name is none for an adapter.
        TrainingError: the model is a store, or there is a state that is damaged or of another run.
        ConfigError, FormatError: the model cannot be read.
        CostError: `ARAIO_COUNTRY` or `ARAIO_TDP` is nothing to count with.
    """

    def __init__(
        self,
        name: str,
        out: Path,
        lessons: Lessons,
        settings: TuneSettings,
        experts: Mapping[int, Sequence[int]] | None,
        *,
        tuning: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:
        self.name, self.out = name, out.expanduser().absolute()
        self.lessons, self.settings, self.experts = lessons, settings, experts
        self.device = torch.device(device)
        if self.out.exists():
            raise AdapterError(f"{out}: exists already; delete it, or give another name")
        self.source = locate(name)
        config, self.adapter = self._described(tuning or {})
        with memory_errors("tune fewer experts, or a smaller model"):
            self.model = SparseModel(config, getattr(torch, settings.dtype))
            load_weights(self.model, self.source)
            if experts is not None:
                train_only(self.model, experts)
            else:
                _freeze_mtp(self.model)
            self.model.to(self.device)
        self.optimizers = build_optimizers(self.model, "adamw", 0.0, 0.0, BETAS)
        tokenizer = Tokenizer.from_folder(self.source)
        pad = tokenizer.token_id(PAD)
        documents = LessonDocuments(lessons.learned, (tokenizer.eos_id or 0) if pad is None else pad)
        self.stream = BatchStream(documents, settings.rows, settings.length, settings.seed)
        self.evaluation: dict[str, Any] = {
            "held_out_lessons": len(lessons.held_out),
            "loss_before": self.held_out_loss(),
        }
        meter = choose_meter(gpus=self.device.type == "cuda")
        self.receipt = RunReceipt(self.partial / "receipt.json", meter, choose_tariff(name, prices="none"))
        self.step = 0
        if self.state_path.exists():
            self.step = load_state(self.state_path, self.model, self.optimizers, self.identity())
            self.receipt.resume()

    @property
    def partial(self) -> Path:
        """The folder of what is needed to go on."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def state_path(self) -> Path:
        return self.partial / "state.safetensors"

    @property
    def trained_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(each.numel() for each in self.model.parameters() if each.requires_grad)

    @property
    def written_bytes(self) -> int:
        """Of what was written, tokenizer and all."""
        return sum(path.stat().st_size for path in self.out.iterdir())

    def identity(self) -> dict[str, Any]:
        """What must be the same in the run that goes on."""
        return {
            "model": self.adapter.model.fingerprint,
            "replaces": self.adapter.replaces,
            "experts": self.adapter.to_json()["experts"] if self.experts is not None else None,
            "lessons": self.lessons.id,
            "settings": asdict(self.settings),
        }

    def _described(self, tuning: Mapping[str, Any]) -> tuple[ModelConfig, Adapter]:
        """The config that is trained, and the adapter that comes of it, without its numbers."""
        with open_checked(self.source) as (config, stored):
            if not isinstance(stored, Checkpoint):
                raise TrainingError(
                    f"{self.source}: is a store of `araio convert`; tune the checkpoint that it was made of: "
                    "what comes of it is for the store, too"
                )
            if self.experts is not None or not stored.holds_mtp(config):
                # The module's experts are its own, and drafts change no answer.
                config = replace(config, num_nextn_predict_layers=0)
            first = f"model.layers.{config.moe_layers[0]}.mlp.experts.0.{EXPERT_MATRICES[0]}.weight"
            model = ProfiledModel.of(Path(self.name).name, config, stored_fingerprint(config, stored))
            adapter = Adapter(
                None,
                self.out.name,
                model,
                {layer: tuple(ids) for layer, ids in (self.experts or {}).items() if ids},
                "",
                stored.codec(first).name,
                tuning={**tuning, "lessons": self.lessons.id, **asdict(self.settings)},
            )
            return config, replace(adapter, replaces=digest_of(stored, adapter.names))

    # ---------------------------------------------------------------- the loop

    def run(self, on_step: Callable[[TuneReport], None], should_stop: Callable[[], bool]) -> bool:
        """Train to the end and write `out`; True if the end was reached.

        should_stop  asked before every step; when true, the state is saved and the run ends early

        Raises:
            TrainingError: the loss is not finite, or memory or disk is full; the last saved state is kept.
        """
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{self.partial}: cannot be made ({error.strerror})") from None
        self.receipt.begin()
        while self.step < self.settings.steps:
            if should_stop():
                self.save()
                return False
            with memory_errors(
                f"lower --rows or --length (now {self.settings.rows}, {self.settings.length})"
            ):
                on_step(self.advance())
            if self.step % self.settings.save_every == 0 or self.step == self.settings.steps:
                self.save()
        self.write()
        shutil.rmtree(self.partial)
        return True

    def advance(self) -> TuneReport:
        """One step: forward, backward, clip, update."""
        begun_s = time.perf_counter()
        batch = self.stream.batch(self.step).to(self.device)
        loss = compute_loss(self.model, batch, mtp_weight=0.0, balance_weight=0.0)
        self._require_finite("loss", loss.total.item())
        torch.autograd.backward(loss.total)
        trained = [each for each in self.model.parameters() if each.requires_grad]
        gradient_norm = float(clip_grad_norm_(trained, CLIP))
        # Before the weights move: a state with a NaN in it must never be saved.
        self._require_finite("gradient norm", gradient_norm)
        learning_rate = self.settings.learning_rate_at(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        seconds = time.perf_counter() - begun_s
        self.receipt.count(batch.tokens.numel(), seconds)
        return TuneReport(
            self.step,
            self.settings.steps,
            loss.total.item(),
            learning_rate,
            gradient_norm,
            batch.tokens.numel(),
            seconds,
        )

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} is {value} at step {self.step + 1}; lower --learning-rate (now "
                f"{self.settings.learning_rate:g}) and delete {self.partial} to begin anew"
            )

    def save(self) -> None:
        """Write the state to go on from, and what it took to come so far."""
        save_state(self.state_path, self.model, self.optimizers, self.step, self.identity())
        self.receipt.save()

    @torch.no_grad()
    def held_out_loss(self) -> float | None:
        """Nats per learned token of the lessons that were kept apart; None where there are none."""
        total, labels = 0.0, 0
        rows = packed(self.lessons.held_out, self.settings.length)
        for start in range(0, len(rows), self.settings.rows):
            batch: Batch = self.stream.collate(rows[start : start + self.settings.rows]).to(self.device)
            output = self.model(batch.tokens, batch.documents, batch.positions, with_mtp=False)
            total += float(cross_entropy(self.model, output.hidden, batch.labels)) * batch.learned_tokens
            labels += batch.learned_tokens
        return total / labels if labels else None

    # ---------------------------------------------------------------- what comes of it

    def write(self) -> None:
        """Write what was trained: an adapter, or a checkpoint where everything was.

        Raises AdapterError or TrainingError if the folder cannot be written.
        """
        self.evaluation |= {"loss_after": self.held_out_loss()}
        if self.experts is None:
            self._write_checkpoint()
            return
        done = replace(
            self.adapter,
            tuning={**self.adapter.tuning, "receipt": self.receipt.to_json()},
            evaluation=self.evaluation,
        )
        in_bfloat16 = done.stored_as != "f32"
        self.adapter = done.save(
            self.out,
            {name: _stored(tensor, in_bfloat16) for name, tensor in tuned_tensors(self.model)},
        )

    def _write_checkpoint(self) -> None:
        staging = self.partial / "model"
        shutil.rmtree(staging, ignore_errors=True)
        dtype = torch.float32 if self.adapter.stored_as == "f32" else torch.bfloat16
        export_model(staging, self.model, dtype)
        try:
            for name in COPIED_FILES:
                if (self.source / name).exists() and name != "config.json":
                    shutil.copyfile(self.source / name, staging / name)
            staging.rename(self.out)
        except OSError as error:
            raise TrainingError(f"{self.out}: cannot be written ({error.strerror})") from None


def _freeze_mtp(model: SparseModel) -> None:
    """Without a loss of its own it would only be pushed about by what it shares."""
    for layer in model.config.mtp_layers:
        model.model.layers[layer].requires_grad_(False)


def _stored(tensor: torch.Tensor, in_bfloat16: bool) -> Float32Array | BFloat16:
    if in_bfloat16:
        return BFloat16(tensor.to(torch.bfloat16).contiguous().view(torch.uint16).cpu().numpy())
    values: Float32Array = tensor.float().contiguous().cpu().numpy()
    return values
