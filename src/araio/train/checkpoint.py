"""Saving and resuming a run, and exporting its model in the published checkpoint format.

The state of a run is one safetensors file: parameters, buffers and optimizer moments as tensors, the step and
what must not change as text in its header. Nothing is pickled. It is written beside the old one and renamed
over it, so whatever happens, one good state is on the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from araio.config import ModelConfig
from araio.errors import TrainingError
from araio.formats.write import write_checkpoint
from araio.tensors import BFloat16, Float32Array
from araio.train.model import GroupedExperts, SparseModel

__all__ = ["checkpoint_tensors", "export_model", "load_state", "load_tensors", "save_state"]

MAX_SHARD_BYTES = 15 << 20


# -------------------------------------------------------------------- state of a run


def save_state(
    path: Path, model: SparseModel, optimizers: list[Optimizer], step: int, identity: Mapping[str, Any]
) -> None:
    """Write the state after `step` steps; `identity`, of JSON values, is what a resumed run must agree with.

    Frozen parameters are no state: who froze them has them from elsewhere.

    Raises:
        TrainingError: the disk is full or not writable; the old state is untouched.
    """
    tensors = {f"model.{name}": tensor for name, tensor in moving_tensors(model)}
    tensors |= optimizer_tensors(optimizers)
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    metadata = {"step": str(step), "identity": json.dumps(identity, sort_keys=True)}
    temporary = path.with_suffix(".new")
    try:
        save_file(tensors, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"{path}: cannot save step {step} ({error}); the state before it is kept, free some space and "
            "run the same command to go on from there"
        ) from None


def flush_folder(folder: Path) -> None:
    """Make a rename in a folder outlast a power cut: names are data of the folder, not of the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_state(
    path: Path, model: SparseModel, optimizers: list[Optimizer], identity: Mapping[str, Any]
) -> int:
    """Restore a run in place, bit for bit; returns the number of steps it has done.

    Raises:
        TrainingError: the file is damaged, or belongs to a run with another identity.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        step, found = int(metadata["step"]), json.loads(metadata["identity"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path}: is damaged, or is not the state of a run ({error}); move it away to start anew"
        ) from None
    changed = ", ".join(differences(found, json.loads(json.dumps(identity))))
    if changed:
        raise TrainingError(
            f"{path}: was made by a run that differs in {changed}; train into another folder, or go on as it "
            "began"
        )
    try:
        fill(moving_tensors(model), below("model.", tensors))
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from None
    for index, optimizer in enumerate(optimizers):
        restore_optimizer(optimizer, below(f"optimizer.{index}.", tensors))
    return step


def differences(found: Any, expected: Any, key: str = "") -> Iterator[str]:
    """Dotted keys at which two JSON values differ."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            yield from differences(found.get(name), expected.get(name), f"{key}.{name}" if key else name)
    elif found != expected:
        yield key or "everything"


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def optimizer_tensors(optimizers: list[Optimizer]) -> Iterator[tuple[str, Tensor]]:
    """Names `optimizer.I.P.KEY` and tensors of all states: P is the parameter's number in optimizer I."""
    for index, optimizer in enumerate(optimizers):
        for number, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                yield f"optimizer.{index}.{number}.{key}", value


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    document = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = tensor
    document["state"] = state
    optimizer.load_state_dict(document)


# -------------------------------------------------------------------- tensors by name


def model_tensors(model: SparseModel) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, sharing memory with the model; a tied output matrix is the embedding, once."""
    for name, tensor in model.state_dict().items():
        if not (model.config.tie_word_embeddings and name == "lm_head.weight"):
            yield name, tensor


def moving_tensors(model: SparseModel) -> Iterator[tuple[str, Tensor]]:
    """The same without parameters that are frozen."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return ((name, tensor) for name, tensor in model_tensors(model) if name not in frozen)


@torch.no_grad()
def fill(targets: Iterable[tuple[str, Tensor]], sources: Mapping[str, Tensor]) -> None:
    """Copy every source into the target of its name; TrainingError unless names and shapes are the same."""
    left = dict(sources)
    for name, target in targets:
        source = left.pop(name, None)
        if source is None or source.shape != target.shape:
            found = "missing" if source is None else f"of shape {tuple(source.shape)}"
            raise TrainingError(f"tensor {name} is {found}; expected shape {tuple(target.shape)}")
        target.copy_(source)
    if left:
        raise TrainingError(f"tensors that the config does not have: {', '.join(sorted(left)[:5])}")


# -------------------------------------------------------------------- published format


def checkpoint_tensors(model: SparseModel) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as DeepSeek publishes them: each expert's projections are tensors of their own."""
    stacked = {name for name, module in model.named_modules() if isinstance(module, GroupedExperts)}
    for name, tensor in model_tensors(model):
        prefix, _, projection = name.rpartition(".")
        if prefix in stacked:
            for expert, matrix in enumerate(tensor):
                yield f"{prefix}.{expert}.{projection}.weight", matrix
        else:
            yield name, tensor


def load_tensors(model: SparseModel, tensors: Mapping[str, Tensor]) -> None:
    """Fill a model from published names; the inverse of `checkpoint_tensors`, and as strict.

    Raises:
        TrainingError: a tensor is missing, left over, or of another shape.
    """
    fill(checkpoint_tensors(model), tensors)


def export_model(folder: Path, model: SparseModel, dtype: torch.dtype) -> None:
    """Write config and weights in `dtype`, as this package, transformers, vLLM and SGLang load them."""
    document = model.config.to_dict() | {"torch_dtype": str(dtype).removeprefix("torch.")}
    folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(folder, stored_tensors(model, dtype), MAX_SHARD_BYTES)
    ModelConfig.from_dict(document).save(folder / "config.json")


def stored_tensors(model: SparseModel, dtype: torch.dtype) -> Iterator[tuple[str, Float32Array | BFloat16]]:
    for name, tensor in checkpoint_tensors(model):
        # The bias stays float32, as in every published checkpoint: bfloat16 would swallow its small steps.
        if dtype == torch.bfloat16 and not name.endswith("e_score_correction_bias"):
            bits = tensor.to(torch.bfloat16).contiguous().view(torch.uint16)
            yield name, BFloat16(bits.cpu().numpy())
        else:
            yield name, tensor.float().cpu().numpy()
