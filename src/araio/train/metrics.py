"""What a step did, and the log of it: one JSON object a line, safe to cut off and go on.

A run that resumes from step n forgets the lines behind it, so no step appears twice. Read `loop.py` for who
writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from araio.errors import TrainingError

__all__ = ["MetricsLog", "StepReport"]


@dataclass(frozen=True)
class StepReport:
    """One line of `metrics.jsonl`; the fields are its keys.

    Losses are means over the step's labels in nats. `tokens` counts all positions of the batch, padding
    included; `learned_tokens` those with a label. `seconds` are those of the step, its data included. The
    balance fields (see `balance.LoadReport`) and the joules cover the steps since the last line, or since the
    run resumed; `joules_method` says how they came about (see `costs/receipt.py`).
    """

    step: int
    steps: int
    stage: str
    loss: float
    mtp_loss: float
    balance_loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    learned_tokens: int
    seconds: float
    max_violation_batch: float
    max_violation_global: float
    worst_layer: float
    entropy: float
    dead_experts: int
    joules: float
    joules_low: float
    joules_high: float
    joules_method: str

    @property
    def tok_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know beside the numbers: nothing."""
        return ()

    @property
    def text(self) -> str:
        """The few numbers that a person watches."""
        return (
            f"loss {self.loss:.3f} · {self.tok_per_s:,.0f} tok/s · "
            f"MaxVio {self.max_violation_batch:.2f} · lr {self.learning_rate:.1e}"
        )


class MetricsLog:
    """A file of lines that each belong to a step, such as `metrics.jsonl` of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, report: Any) -> None:
        """Add a line, of a dataclass that has a `step`; TrainingError when the disk is full."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(report)) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written ({error.strerror})") from None

    def lines(self) -> list[Mapping[str, Any]]:
        """All lines, once `forget_after` has checked them; none where there is no file."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def forget_after(self, step: int) -> None:
        """Drop the lines of later steps, which will be done again; TrainingError if that cannot be."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
            # A line that a kill cut short is of a later step as well.
            kept = [f"{line}\n" for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
            temporary = self.path.with_suffix(".new")
            temporary.write_text("".join(kept), encoding="utf-8")
            temporary.replace(self.path)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be rewritten ({error.strerror})") from None
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{self.path}: is not the log of a run ({error}); move it away") from None
