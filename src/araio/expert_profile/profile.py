"""`ExpertProfile`: which experts of each layer a domain needs, as a file.

    {"format": "araio-profile", "version": 1, "name": "math",
     "model": {"name": "pocket", "fingerprint": "9c1f...", "n_routed_experts": 32, ...},
     "keep": {"1": [0, 3, 4, ...], ...}, "mtp": null, "method": {...}, ...}

It refuses files that are malformed, models that it was not made for, and sets of experts from which a router
cannot always choose as many as a token needs. Read `group_rule.py` for the last, `nn/mask.py` for a model
that chooses among them alone, `weights/residency.py` for one that keeps them in memory.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from araio.atomic import write_text
from araio.config import ModelConfig
from araio.errors import ConfigError, ProfileError
from araio.expert_profile.group_rule import shortage
from araio.expert_profile.habits import pack_habits
from araio.expert_profile.profiled_model import ProfiledModel
from araio.expert_profile.reading import FORMAT, VERSION, read_parts
from araio.json_reader import read_object, shown
from araio.tensors import Float32Array

__all__ = ["ExpertProfile", "check_name"]

MAX_BYTES = 128 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ExpertProfile:
    """Experts that a domain needs, how they were found, and what is lost without the others.

    name         by which requests ask for it: letters, digits, `.`, `_` and `-`
    keep         ids by layer, ascending; every layer of the model that routes has some
    mtp          the same of the multi-token-prediction module's own experts; None where nobody chose
    method       how they were chosen: {"score", "keep" or "coverage", ...}
    calibration  on what: {"sequences", "tokens", "sources"}
    scores       of all experts by layer, the higher the more they are needed; None where they were not kept
    evaluation   what it costs, as `araio profile eval` measured it; None until then
    habits       what a cache of experts learned on the calibration, `weights/habits.py`; None if nothing

    Raises:
        ProfileError: parts that do not fit together.
    """

    name: str
    model: ProfiledModel
    keep: Mapping[int, Sequence[int]]
    mtp: Sequence[int] | None = None
    method: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[int, Sequence[float]] | None = None
    evaluation: Mapping[str, Any] | None = None
    habits: Mapping[str, Float32Array] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        # Of Python's own numbers, whatever they were made of.
        keep = {int(layer): tuple(map(int, self.keep[layer])) for layer in sorted(self.keep)}
        object.__setattr__(self, "keep", keep)
        if set(keep) != set(self.model.layers):
            raise self._failure(
                f"keeps experts of layers {sorted(self.keep)}; the model routes in {list(self.model.layers)}"
            )
        if self.mtp is not None:
            object.__setattr__(self, "mtp", tuple(map(int, self.mtp)))
        for where, ids in self._sets():
            self._check_ids(where, ids)
        if self.scores is not None:
            scores = {int(layer): tuple(map(float, values)) for layer, values in self.scores.items()}
            object.__setattr__(self, "scores", scores)
            self._check_scores(scores)

    @cached_property
    def id(self) -> str:
        """Sixteen characters that are the same for profiles that keep the same experts of the main model."""
        return hashlib.sha256(json.dumps(list(self.keep.items())).encode()).hexdigest()[:16]

    @property
    def experts(self) -> int:
        """How many it keeps, in all layers of the main model."""
        return sum(len(ids) for ids in self.keep.values())

    @property
    def is_uniform(self) -> bool:
        """Whether it keeps as many in every group of every layer, as a config of fewer experts needs it."""
        return len({count for _, ids in self._sets() for count in self.model.group_counts(ids)}) <= 1

    def check(self, config: ModelConfig, fingerprint: str | None = None) -> None:
        """Refuse a model that it was not made for, and sets that its routers cannot always choose from.

        fingerprint  of the model's routers; None leaves them unchecked, as before weights are read

        Raises:
            ProfileError: it says what differs, or which layer and groups keep too few.
        """
        if (found := self.model.difference(config, fingerprint)) is not None:
            raise self._failure(f"was made for {found}; fit one to it with `araio profile fit`")
        for where, ids in self._sets():
            if (found := shortage(self.model.group_counts(ids), config)) is not None:
                raise self._failure(f"{where} keeps too few experts: {found}")

    # ------------------------------------------------------------------ documents

    @classmethod
    def from_file(cls, path: str | Path) -> ExpertProfile:
        """Read one; raises ProfileError with the file's name where there is none or it is malformed."""
        path = Path(path)
        try:
            return cls.from_json(read_object(path, MAX_BYTES))
        except (ConfigError, ProfileError, ValueError) as error:
            raise ProfileError(f"{path}: {error}") from None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ExpertProfile:
        """Read the document of a file; raises ConfigError or ProfileError naming what is wrong."""
        return cls(**read_parts(document))

    def to_json(self) -> dict[str, Any]:
        """The document of a file."""
        model = asdict(self.model) | {"layers": list(self.model.layers)}
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "model": model,
            "keep": _lists(self.keep),
            "mtp": None if self.mtp is None else list(self.mtp),
            "method": dict(self.method),
            "calibration": dict(self.calibration),
            "scores": None if self.scores is None else _lists(self.scores),
            "evaluation": None if self.evaluation is None else dict(self.evaluation),
            "habits": None if self.habits is None else pack_habits(self.habits),
        }

    def save(self, path: str | Path) -> None:
        """Write the file, all of it or nothing; raises ProfileError where it cannot be written."""
        try:
            write_text(Path(path), json.dumps(self.to_json(), allow_nan=False) + "\n")
        except OSError as error:
            raise ProfileError(f"{path}: cannot be written ({error.strerror})") from None

    def _sets(self) -> list[tuple[str, Sequence[int]]]:
        """What is kept, each with the name of its place."""
        every = [(f"layer {layer}", ids) for layer, ids in self.keep.items()]
        return every if self.mtp is None else [*every, ("mtp", self.mtp)]

    def _check_ids(self, where: str, ids: Sequence[int]) -> None:
        count, least = self.model.n_routed_experts, self.model.num_experts_per_tok
        wrong = [expert for expert in ids if not 0 <= expert < count]
        if wrong:
            raise self._failure(f"{where} keeps experts {shown(wrong)}; the model has 0 to {count - 1}")
        if list(ids) != sorted(set(ids)):
            raise self._failure(f"{where} keeps {shown(list(ids))}; expected ascending ids, each once")
        if len(ids) < least:
            raise self._failure(f"{where} keeps {len(ids)} experts; each token needs {least}")

    def _check_scores(self, by_layer: Mapping[int, Sequence[float]]) -> None:
        count = self.model.n_routed_experts
        for layer, scores in by_layer.items():
            if layer not in self.keep or len(scores) != count:
                raise self._failure(f"layer {layer} has {len(scores)} scores; expected {count} of each layer")

    def _failure(self, what: str) -> ProfileError:
        return ProfileError(f"profile {self.name!r}: {what}")


def check_name(name: str) -> None:
    """Refuse what no request could ask for; raises ProfileError."""
    if not _NAME.fullmatch(name):
        raise ProfileError(
            f"a profile's name is {shown(name)}; expected up to 64 letters, digits, '.', '_' and '-'"
        )


def _lists(by_layer: Mapping[int, Sequence[Any]]) -> dict[str, list[Any]]:
    return {str(layer): list(by_layer[layer]) for layer in sorted(by_layer)}
