"""`export`: a checkpoint with the experts that a profile keeps, and nothing else changed.

Bytes are copied as they are stored, FP8 with its scales; rows of routers and their biases leave with the
experts they belong to. The smaller model chooses what the whole one would choose among the kept experts.
Refuses profiles that keep unequal numbers, stores, and folders that exist. Read `prune_plan.py` for what
becomes of each tensor, `expert_profile/profile.py` for what is kept, `nn/mask.py` for the same without a
second model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import araio
from araio.atomic import flush_folder, write_text
from araio.config import ModelConfig
from araio.errors import CheckpointError, ProfileError
from araio.expert_profile import ExpertProfile
from araio.formats.checkpoint import Checkpoint
from araio.formats.manifest import MANIFEST_NAME, PARTIAL_SUFFIX
from araio.formats.safetensors import SafetensorsFile
from araio.formats.shards import INDEX_NAME, SINGLE_NAME
from araio.formats.tensor_file import TensorFileWriter
from araio.weights.convert import COPIED_FILES
from araio.weights.load import open_checked
from araio.weights.prune_plan import Part, plan_of
from araio.weights.routers import stored_fingerprint

__all__ = ["PROFILE_NAME", "Exported", "export", "exported_bytes", "exported_config"]

PROFILE_NAME = "expert_profile.json"

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Exported:
    """What came of it; bytes are those of weights.

    experts   of each layer that are left, of so many that there were
    has_mtp   the multi-token-prediction module is still there
    """

    folder: Path
    experts: int
    source_experts: int
    has_mtp: bool
    source_bytes: int
    bytes: int


def export(
    source: Path,
    target: Path,
    profile: ExpertProfile,
    on_progress: OnProgress = lambda done, total: None,
) -> Exported:
    """Write the smaller checkpoint; one tensor is in memory at a time.

    source       the folder of the checkpoint that the profile is of
    target       folder to write, which must not exist yet
    on_progress  called with the bytes that are written, and how many there will be

    Raises:
        ProfileError: a profile of another model, or one that keeps unequal numbers of experts.
        ConfigError, FormatError, CheckpointError: the source cannot be read or is a store, the target exists,
            or the disk has too little room or fails; nothing is left then.
    """
    if (source / MANIFEST_NAME).exists():
        raise CheckpointError(
            f"{source}: is a store of `araio convert`; export from the checkpoint that it was made of, and "
            "convert what comes of it"
        )
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise CheckpointError(f"{target}: exists already; delete it, or give another name")
    with open_checked(source) as (config, checkpoint):
        assert isinstance(checkpoint, Checkpoint)
        _check(profile, config, checkpoint)
        keeps_mtp = profile.mtp is not None and checkpoint.holds_mtp(config)
        smaller = exported_config(config, profile, keeps_mtp=keeps_mtp)
        plan = list(plan_of(config, checkpoint, profile, keeps_mtp))
        total = sum(part.bytes for _, parts in plan for part in parts)
        _refuse_a_full_disk(target, total)
        with _growing(target) as folder:
            _write_shards(folder, plan, total, on_progress)
            _write_others(folder, source, smaller, profile)
            with open_checked(folder):
                pass  # names, shapes and types are those of the new config
        source_bytes = sum(file.size_bytes for file in checkpoint.files)
    written = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    return Exported(
        target, smaller.n_routed_experts, config.n_routed_experts, keeps_mtp, source_bytes, written
    )


def exported_bytes(source: Path, profile: ExpertProfile) -> tuple[int, int] | None:
    """Bytes of all tensors of a checkpoint, and of those that `export` would write; None where it would not.

    Raises ConfigError, FormatError or CheckpointError: the source cannot be read.
    """
    with open_checked(source) as (config, checkpoint):
        if not isinstance(checkpoint, Checkpoint) or not profile.is_uniform:
            return None
        keeps_mtp = profile.mtp is not None and checkpoint.holds_mtp(config)
        plan = plan_of(config, checkpoint, profile, keeps_mtp)
        written = sum(part.bytes for _, parts in plan for part in parts)
        return sum(entry.end - entry.begin for entry in checkpoint.values()), written


def exported_config(config: ModelConfig, profile: ExpertProfile, *, keeps_mtp: bool) -> ModelConfig:
    """The config of what is left: fewer experts, perhaps no prediction module; every other key stays."""
    left = len(next(iter(profile.keep.values())))
    document = config.to_dict() | {"n_routed_experts": left}
    if "num_nextn_predict_layers" in document:
        document["num_nextn_predict_layers"] = int(keeps_mtp)
    return ModelConfig.from_dict(document)


def _check(profile: ExpertProfile, config: ModelConfig, checkpoint: Checkpoint) -> None:
    profile.check(config, stored_fingerprint(config, checkpoint))
    if not profile.is_uniform:
        raise ProfileError(
            f"profile {profile.name!r} keeps unequal numbers of experts, and a config has one number for all "
            "layers and groups; fit one with --equal-groups to export it, or use this one as it is with "
            "--profile-mode pin or mask"
        )


def _refuse_a_full_disk(target: Path, needed: int) -> None:
    folder = next(parent for parent in target.parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(
            f"{target}: the checkpoint takes {needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB of the disk "
            "are free; make room or choose another disk"
        )


@contextmanager
def _growing(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its name when all is written, and is gone if anything fails."""
    folder = target.with_name(target.name + PARTIAL_SUFFIX)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise CheckpointError(
            f"{folder}: is in the way; another process writes it, or one was killed: delete it then"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
    try:
        yield folder
        flush_folder(folder)
        folder.rename(target)
        flush_folder(target.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CheckpointError(
            f"{target}: could not be written ({error.strerror}); nothing is left of it: make room, or choose "
            "another folder"
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


# ---------------------------------------------------------------------- writing


def _write_shards(
    folder: Path,
    plan: Sequence[tuple[SafetensorsFile, Sequence[Part]]],
    total: int,
    on_progress: OnProgress,
) -> None:
    done, weight_map = 0, {}
    for number, (file, parts) in enumerate(plan, 1):
        shard = SINGLE_NAME if len(plan) == 1 else f"model-{number:05d}-of-{len(plan):05d}.safetensors"
        tensors = {part.name: (part.dtype, part.shape) for part in parts}
        with TensorFileWriter(folder / shard, tensors, metadata=file.metadata or {"format": "pt"}) as writer:
            for part in parts:
                writer.append(part.name, part.read(file))
                weight_map[part.name] = shard
                done += part.bytes
                on_progress(done, total)
    if len(plan) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_text(folder / INDEX_NAME, json.dumps(index, indent=2))


def _write_others(folder: Path, source: Path, config: ModelConfig, profile: ExpertProfile) -> None:
    for name in COPIED_FILES:
        if (source / name).exists() and name != "config.json":
            shutil.copyfile(source / name, folder / name)
    # A config may name classes of its repository (`auto_map`): without their files transformers refuses it.
    for kept in [*source.glob("LICENSE*"), *source.glob("*.py")]:
        shutil.copyfile(kept, folder / kept.name)
    config.save(folder / "config.json")
    profile.save(folder / PROFILE_NAME)
    write_text(folder / "README.md", _readme(source, config, profile))


def _readme(source: Path, config: ModelConfig, profile: ExpertProfile) -> str:
    model = profile.model
    return (
        f"# {profile.name}: {config.n_routed_experts} of {model.n_routed_experts} experts of {model.name}\n\n"
        f"Made from `{source.resolve().name}` by araio {araio.__version__}, which kept in every layer the "
        f"experts that `{PROFILE_NAME}` lists (id {profile.id}). Nothing was trained or rounded: the weights "
        "are bytes of the original. It answers as the original does with that profile as a mask, which is "
        "not as well as without; the profile says by how much, if that was measured.\n"
    )
