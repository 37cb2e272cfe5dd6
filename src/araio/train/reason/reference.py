"""`Reference`: the policy as it was, which the KL term holds the new one to.

It is kept in a file named by the step that it is of, so that a run that goes on from an earlier state finds
the one that was in use then. R1-Zero replaced its reference by the policy every 400 steps (Nature 2025,
645:633, methods). Read `objectives.py`, `k3`, for the distance.
"""

from __future__ import annotations

from pathlib import Path

import torch

from araio.errors import TrainingError
from araio.train.checkpoint import load_state, save_state
from araio.train.model import SparseModel

__all__ = ["Reference"]


class Reference:
    """A frozen copy of a policy.

    folder  of its files, one at rest
    every   steps of the stage after which the policy takes its place; 0 for never
    """

    def __init__(self, policy: SparseModel, folder: Path, every: int) -> None:
        self._policy, self._folder, self._every = policy, folder, every
        self._step: int | None = None
        self.model = SparseModel(policy.config, policy.compute_dtype)
        self.model.to(policy.lm_head.weight.device)

    def prepare(self, step: int, within: int) -> None:
        """Before step `step` of the run, `within` of the stage: take the policy, or what a file has, as due.

        Raises:
            TrainingError: the file is damaged, or cannot be written.
        """
        since = within % self._every if self._every else within
        wanted = step - since
        if self._step == wanted:
            return
        path = self._folder / f"{wanted}.safetensors"
        if since == 0:
            self._take_policy(path, wanted)
        else:
            if not path.exists():
                raise TrainingError(
                    f"{path}: is missing, and the run cannot go on without the policy of step {wanted}; put "
                    "it back, or set kl_weight = 0 in the recipe"
                )
            load_state(path, self.model, [], {})
        self._step = wanted

    def forget_before(self, step: int) -> None:
        """Delete the files that nothing needs once the run's state is that of `step`."""
        if self._step is None or self._step > step:
            return
        for path in self._folder.glob("*.safetensors"):
            if path.stem.isdigit() and int(path.stem) < self._step:
                path.unlink(missing_ok=True)

    def _take_policy(self, path: Path, step: int) -> None:
        with torch.no_grad():
            self.model.load_state_dict(self._policy.state_dict())
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{self._folder}: cannot be created ({error.strerror})") from None
        save_state(path, self.model, [], step, {})
