"""Which files make up a checkpoint: an index and its shards, or a single file, and never one elsewhere.

An index is text from the network that names files to open. A shard must be a plain file name, lie in the
folder of its index, and hold exactly the tensors that the index places in it. Read `checkpoint.py` next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from araio.errors import CheckpointError
from araio.formats.safetensors import SafetensorsFile
from araio.json_reader import read_object, shown

__all__ = ["INDEX_NAME", "SINGLE_NAME", "inside", "open_shards"]

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"

MAX_INDEX_BYTES = 256 << 20  # Kimi-K2's, with 280,000 names, takes 30 MB
_SHARD_NAME = re.compile(r"\w[\w.\-]*\.safetensors", re.ASCII)


def open_shards(folder: Path) -> list[SafetensorsFile]:
    """Open every shard of a checkpoint and read its header.

    Raises CheckpointError when shards and index contradict each other or leave the folder, and FormatError
    when a shard is malformed.
    """
    try:
        if not (folder / INDEX_NAME).exists():
            return [SafetensorsFile(inside(folder, _find_single(folder)))]
        weight_map = read_index(folder / INDEX_NAME)
        shards = {name: inside(folder, name) for name in sorted(set(weight_map.values()))}
        for name, path in shards.items():
            if not path.exists():
                raise CheckpointError(
                    f"{folder / INDEX_NAME}: names {name}, which is missing; download it again"
                )
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read ({error.strerror})") from None
    files = {name: SafetensorsFile(path) for name, path in shards.items()}
    _check_index(folder / INDEX_NAME, weight_map, files)
    return list(files.values())


def read_index(index: Path) -> dict[str, str]:
    """Tensor name to shard name; raises CheckpointError when the index is malformed."""
    try:
        weight_map = read_object(index, MAX_INDEX_BYTES).get("weight_map")
    except ValueError as error:
        raise CheckpointError(f"{index}: {error}") from None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is {shown(weight_map)}; expected names and their shards")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _SHARD_NAME.fullmatch(shard):
            raise CheckpointError(
                f"{index}: places tensor {shown(name)} in {shown(shard)}; expected the name of a "
                ".safetensors file in the same folder"
            )
    return weight_map


def _check_index(index: Path, weight_map: Mapping[str, str], files: Mapping[str, SafetensorsFile]) -> None:
    for name, shard in weight_map.items():
        if name not in files[shard]:
            raise CheckpointError(f"{index}: places tensor {shown(name)} in {shard}, which does not hold it")
    for shard, file in files.items():
        for name in file:
            if weight_map.get(name) != shard:
                found = f"places it in {weight_map[name]}" if name in weight_map else "does not list it"
                raise CheckpointError(f"{file.path}: holds tensor {shown(name)}, but {INDEX_NAME} {found}")


def _find_single(folder: Path) -> str:
    if (folder / SINGLE_NAME).exists():
        return SINGLE_NAME
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is not a folder; expected one that holds a checkpoint")
    if any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder}: has .safetensors shards but no {INDEX_NAME}; download that file too"
        )
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        raise CheckpointError(
            f"{folder}: has pickled weights only; they can run code when opened, so araio never opens them; "
            "get the model in safetensors format"
        )
    raise CheckpointError(f"{folder}: has neither {INDEX_NAME} nor {SINGLE_NAME}")


def inside(folder: Path, shard: str, remedy: str = "download the file again") -> Path:
    """The shard's path, unless it is a link that leaves the folder.

    remedy  what the owner of a broken link can do

    Raises CheckpointError.

    The Hugging Face cache keeps `snapshots/REVISION/` full of links to `blobs/` two levels up: those may be
    followed, and nothing else.
    """
    path, home = folder / shard, folder.resolve()
    try:
        target = path.resolve()
    except RuntimeError:
        raise CheckpointError(f"{path}: is a link to itself; {remedy}") from None
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if target.parent not in homes:
        raise CheckpointError(
            f"{path}: is a link to {target}, outside the checkpoint's folder; copy the file"
        )
    return path
