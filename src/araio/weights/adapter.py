"""`Adapter`: a model's tuned experts as a small folder of their own, and what else there is to say of them.

    adapter.json          format, model, experts by layer, what they replace, how they were tuned
    experts.safetensors   their matrices under the names that they have in the model's checkpoint
    expert_cfg.json       which experts, as ESFT's code reads it (arXiv 2407.01906)

It refuses folders that are damaged, and models that it was not made for: routers must be the same, and so
must the experts that it takes the place of, where they are stored as they were then. Read `adapted.py` for a
model that has the tuned experts in place of its own, `adapt/tune.py` for who makes adapters.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from araio.atomic import flush_folder, write_text
from araio.codecs import codec_of
from araio.config import ModelConfig
from araio.errors import AdapterError, ConfigError, FormatError
from araio.expert_profile import ProfiledModel
from araio.expert_profile.reading import is_id, read_by_layer, read_model, read_table, read_text
from araio.formats.digest import sha256_of
from araio.formats.layout import EXPERT_MATRICES
from araio.formats.safetensors import SafetensorsFile
from araio.formats.tensor_file import TensorFileWriter
from araio.json_reader import ObjectReader, read_object, shown
from araio.kernels.widen import widen
from araio.tensors import BFloat16, Float32Array
from araio.weights.build import WeightSource
from araio.weights.routers import stored_fingerprint

__all__ = ["ADAPTER_NAME", "EXPERTS_NAME", "Adapter", "digest_of"]

FORMAT, VERSION = "araio-adapter", 1
ADAPTER_NAME, EXPERTS_NAME, ESFT_NAME = "adapter.json", "experts.safetensors", "expert_cfg.json"

MAX_BYTES = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Adapter:
    """Tuned experts in a folder.

    folder      where they are; None until they are saved
    name        that receipts show: letters, digits, `.`, `_` and `-`
    experts     ids by layer, ascending
    replaces    `digest_of` the experts that they were made of
    stored_as   codec of those
    sha256      of the file of matrices
    tuning      how: {"data", "steps", "learning_rate", ...}
    evaluation  what it brought, as it was measured; None where nothing was
    """

    folder: Path | None
    name: str
    model: ProfiledModel
    experts: Mapping[int, Sequence[int]]
    replaces: str
    stored_as: str
    sha256: str = ""
    tuning: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise AdapterError(
                f"an adapter's name is {shown(self.name)}; expected up to 64 letters, digits, '.', '_', '-'"
            )

    @property
    def names(self) -> list[str]:
        """Of its tensors."""
        return [
            f"model.layers.{layer}.mlp.experts.{expert}.{matrix}.weight"
            for layer, ids in self.experts.items()
            for expert in ids
            for matrix in EXPERT_MATRICES
        ]

    @property
    def tensors(self) -> SafetensorsFile:
        """Its file of matrices, to be closed by who asks for it; raises FormatError for a damaged one."""
        assert self.folder is not None
        return SafetensorsFile(self.folder / EXPERTS_NAME, "tune again")

    # ------------------------------------------------------------------ reading

    @classmethod
    def open(cls, folder: str | Path) -> Adapter:
        """Read an adapter's folder, matrices included, to see that they are what was saved.

        Raises:
            AdapterError: there is none, or it is damaged; the message names the file.
        """
        folder = Path(folder).expanduser()
        path = folder / ADAPTER_NAME
        if not path.is_file():
            raise AdapterError(
                f"{folder}: holds no {ADAPTER_NAME}, so it is no adapter; expected what `araio tune` writes"
            )
        try:
            adapter = cls(folder, **_read_parts(read_object(path, MAX_BYTES)))
        except (AdapterError, ConfigError, ValueError) as error:
            raise AdapterError(f"{path}: {error}") from None
        adapter._check_file()
        return adapter

    def _check_file(self) -> None:
        try:
            file = self.tensors
            file.close()
        except FormatError as error:
            raise AdapterError(str(error)) from None
        if set(file) != set(self.names):
            wrong = sorted(set(file) ^ set(self.names))[0]
            raise AdapterError(
                f"{file.path}: {ADAPTER_NAME} and it do not agree on tensor {shown(wrong)}; tune again, or "
                "copy the whole folder again"
            )
        if sha256_of(file.path) != self.sha256:
            raise AdapterError(
                f"{file.path}: is not what {ADAPTER_NAME} says it is (its SHA-256 differs); copy the folder "
                "again"
            )

    def check(self, config: ModelConfig, source: WeightSource) -> None:
        """Refuse a model that it was not made for; reads the model's routers and the experts in question.

        source  the model's own weights

        Raises:
            AdapterError: it says what differs.
        """
        # What a config says is told before routers of another shape are read.
        difference = self.model.difference(config) or self.model.difference(
            config, stored_fingerprint(config, source)
        )
        if difference is not None:
            raise AdapterError(
                f"adapter {self.name!r} was made for {difference}; tune this one with `araio tune`"
            )
        self._check_shapes(config)
        first = source.read_weight(self.names[0])
        # In other bits, the same experts are other numbers, and there is nothing to compare.
        if codec_of(first).name == self.stored_as and digest_of(source, self.names) != self.replaces:
            raise AdapterError(
                f"adapter {self.name!r} was made of other experts than this model has, though their routers "
                f"are the same; apply it to {self.model.name} as it was, or tune this one with `araio tune`"
            )

    def _check_shapes(self, config: ModelConfig) -> None:
        dim, width = config.hidden_size, config.moe_intermediate_size
        file = self.tensors
        file.close()
        for name, entry in file.items():
            expected = (dim, width) if ".down_proj." in name else (width, dim)
            if entry.shape != expected or entry.dtype not in ("F32", "BF16"):
                raise AdapterError(
                    f"{file.path}: tensor {shown(name)} is {entry.dtype} {list(entry.shape)}; expected BF16 "
                    f"or F32 {list(expected)}"
                )

    # ------------------------------------------------------------------ writing

    def save(self, folder: Path, tensors: Mapping[str, Float32Array | BFloat16]) -> Adapter:
        """Write a folder, which must not exist yet, all of it or nothing; what was written.

        tensors  matrices by the names of `names`

        Raises:
            AdapterError: the folder exists or cannot be written.
        """
        assert set(tensors) == set(self.names)
        folder = folder.absolute()
        if folder.exists():
            raise AdapterError(f"{folder}: exists already; delete it, or give another name")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                saved = self._write(staging, folder, tensors)
                staging.chmod(0o755)  # temporary folders are for their owner only
                staging.rename(folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            flush_folder(folder.parent)
        except OSError as error:
            raise AdapterError(f"{folder}: the adapter cannot be written ({error.strerror})") from None
        return saved

    def _write(self, staging: Path, folder: Path, tensors: Mapping[str, Float32Array | BFloat16]) -> Adapter:
        arrays = {
            name: ("BF16", weight.bits) if isinstance(weight, BFloat16) else ("F32", weight)
            for name, weight in tensors.items()
        }
        shapes = {name: (stored_as, array.shape) for name, (stored_as, array) in arrays.items()}
        path = staging / EXPERTS_NAME
        with TensorFileWriter(path, shapes, metadata={"format": "pt"}) as writer:
            for name, (_, array) in arrays.items():
                writer.append(name, array)
        saved = Adapter(**vars(self) | {"folder": folder, "sha256": sha256_of(path)})
        by_layer = {str(layer): list(ids) for layer, ids in self.experts.items()}
        esft = {"experts": by_layer, "shared_experts": False, "non_expert_modules": False}
        write_text(staging / ESFT_NAME, json.dumps(esft) + "\n")
        write_text(staging / ADAPTER_NAME, json.dumps(saved.to_json(), indent=1, allow_nan=False) + "\n")
        return saved

    def to_json(self) -> dict[str, Any]:
        """The document of `adapter.json`."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "model": asdict(self.model) | {"layers": list(self.model.layers)},
            "experts": {str(layer): list(ids) for layer, ids in self.experts.items()},
            "replaces": {"sha256": self.replaces, "stored_as": self.stored_as},
            "sha256": self.sha256,
            "tuning": dict(self.tuning),
            "evaluation": None if self.evaluation is None else dict(self.evaluation),
        }


def digest_of(source: WeightSource, names: Sequence[str]) -> str:
    """SHA-256, in hex, of what tensors are worth in float32, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(widen(source.read_weight(name)).astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def _read_parts(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an `Adapter`; raises ConfigError or AdapterError, naming the key."""
    reader = ObjectReader(document)
    reader.choice("format", (FORMAT,))
    reader.integer("version", VERSION, VERSION)
    replaces = reader.table("replaces")
    if replaces is None:
        raise reader.failure("replaces", "an object")
    parts: dict[str, Any] = {
        "name": read_text(reader, "name"),
        "model": read_model(reader),
        "experts": read_by_layer(reader, "experts", is_id) or {},
        "replaces": read_text(replaces, "sha256"),
        "stored_as": read_text(replaces, "stored_as"),
        "sha256": read_text(reader, "sha256"),
        "tuning": read_table(reader, "tuning") or {},
        "evaluation": read_table(reader, "evaluation"),
    }
    reader.refuse_the_rest()
    replaces.refuse_the_rest()
    _check_experts(parts["experts"], parts["model"])
    return parts


def _check_experts(experts: Mapping[int, Sequence[int]], model: ProfiledModel) -> None:
    if not any(experts.values()):
        raise AdapterError("names no experts")
    for layer, ids in experts.items():
        count = model.n_routed_experts
        if layer not in model.layers or list(ids) != sorted(set(ids)) or not set(ids) <= set(range(count)):
            raise AdapterError(
                f"names experts {shown(list(ids))} in layer {layer}; expected ascending numbers below "
                f"{count} in layers of {list(model.layers)}"
            )
