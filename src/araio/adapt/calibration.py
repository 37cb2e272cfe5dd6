"""`Calibration`: what experts did for some prompts, by where these came from; and the file that keeps it.

`calibrate` lets the whole model answer first and then looks at prompt, reasoning and answer together: experts
that prompts need are not those that thinking needs, and a model that has lost the form of its answers thinks
longer. The file holds sums, not a choice: whoever has it can cut again, by another score or to another size.
Read `fit.py` for what is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.adapt.answers import ask, check_whole
from araio.adapt.statistics import SUMS, ExpertStatistics, RecordedRoutes, observe
from araio.api import Model
from araio.errors import ConfigError, FormatError, ProfileError
from araio.eval.prompts import Prompt
from araio.expert_profile import ProfiledModel
from araio.formats.safetensors import SafetensorsFile
from araio.formats.tensor_file import TensorFileWriter
from araio.json_reader import ObjectReader, parse_object
from araio.weights.habits import HabitLearner
from araio.weights.policies import Habits

__all__ = ["MAX_TOKENS", "Calibration", "calibrate", "profiled_model"]

FORMAT, VERSION = "araio-calibration", 1
ROLES = ("sources", "general", "spared")
HABITS = "habits."
DTYPES = {"<f8": "F64", "<f4": "F32"}

MAX_TOKENS = 4096
"""Most tokens of an answer that is calibrated on, if nobody says otherwise."""


@dataclass(frozen=True)
class Calibration:
    """What was seen, and of what.

    sources    statistics of the domain by where prompts came from, in the order in which that appears
    general    the same of text that is not the domain's
    spared     the same of other domains, whose foremost experts shall stay
    generated  answers were there; else prompts alone
    cut_off    answers that ended at their limit
    habits     what a cache of experts learned from these answers; None where there were none
    """

    model: ProfiledModel
    sources: Mapping[str, ExpertStatistics]
    generated: bool
    cut_off: int = 0
    habits: Habits | None = None
    general: Mapping[str, ExpertStatistics] = field(default_factory=dict)
    spared: Mapping[str, ExpertStatistics] = field(default_factory=dict)

    @property
    def whole(self) -> ExpertStatistics:
        """All sources of the domain together."""
        first, *others = self.sources.values()
        return sum(others, start=first)

    def save(self, path: Path) -> None:
        """Write the file, all of it or nothing; raises ProfileError where it cannot be written."""
        document = {
            "version": VERSION,
            "model": vars(self.model) | {"layers": list(self.model.layers)},
            "layers": list(self.whole.layers),
            "sources": [
                {"role": role, "name": name, "sequences": seen.sequences, "tokens": seen.tokens}
                for role, name, seen in self._parts()
            ],
            "generated": self.generated,
            "cut_off": self.cut_off,
        }
        arrays = {
            f"{place}.{name}": getattr(seen, name)
            for place, (_, _, seen) in enumerate(self._parts())
            for name in SUMS
        }
        arrays |= {f"{HABITS}{name}": array for name, array in (self.habits or {}).items()}
        tensors = {name: (DTYPES[array.dtype.str], array.shape) for name, array in arrays.items()}
        staged = path.with_name(path.name + ".partial")
        try:
            with TensorFileWriter(
                staged, tensors, {"format": FORMAT, FORMAT: json.dumps(document)}
            ) as writer:
                for name, array in arrays.items():
                    writer.append(name, array)
            staged.replace(path)
        except BaseException as error:
            staged.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise ProfileError(f"{path}: cannot be written ({error.strerror})") from None
            raise

    def _parts(self) -> list[tuple[str, str, ExpertStatistics]]:
        """Role, name and statistics of every source."""
        return [(role, name, seen) for role in ROLES for name, seen in getattr(self, role).items()]

    @classmethod
    def from_file(cls, path: Path) -> Calibration:
        """Read one; raises ProfileError with the file's name where there is none or it is malformed."""
        try:
            file = SafetensorsFile(path, "calibrate again")
            try:
                return _read(file)
            finally:
                file.close()
        except FormatError as error:
            raise ProfileError(str(error)) from None
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise ProfileError(
                f"{path}: is no calibration, or a damaged one ({error}); expected what `araio profile fit "
                "--save-statistics` writes"
            ) from None


def _read(file: SafetensorsFile) -> Calibration:
    document = parse_object(file.metadata[FORMAT].encode())
    ObjectReader(document).integer("version", VERSION, VERSION)
    model = ProfiledModel(**(document["model"] | {"layers": tuple(document["model"]["layers"])}))
    layers = tuple(document["layers"])
    shape = (len(layers), model.n_routed_experts)
    found: dict[str, dict[str, ExpertStatistics]] = {role: {} for role in ROLES}
    for place, entry in enumerate(document["sources"]):
        sums = {name: file.read(f"{place}.{name}") for name in SUMS}
        if any(array.shape != shape or array.dtype != np.float64 for array in sums.values()):
            raise ValueError(f"sums of {entry['name']!r} are not float64 of shape {list(shape)}")
        if not all(np.isfinite(array).all() and (array >= 0).all() for array in sums.values()):
            raise ValueError(f"sums of {entry['name']!r} hold what no sum is")
        of_role = found[entry.get("role", ROLES[0])]
        of_role[entry["name"]] = ExpertStatistics(layers, entry["sequences"], entry["tokens"], **sums)
    if not found["sources"]:
        raise ValueError("no source")
    habits = {name.removeprefix(HABITS): file.read(name) for name in file if name.startswith(HABITS)}
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in habits.values()):
        raise ValueError("habits hold what no number is")
    made = Calibration(model, found["sources"], document["generated"], document["cut_off"], habits or None)
    return replace(made, general=found["general"], spared=found["spared"])


def profiled_model(model: Model) -> ProfiledModel:
    """A loaded model as profiles name it: a folder by its last part.

    Raises:
        ProfileError: a model without experts.
    """
    if not model.config.moe_layers:
        raise ProfileError(f"{model.name} has no routed experts; there is nothing to choose from")
    return ProfiledModel.of(Path(model.name).name, model.config, model.fingerprint)


def calibrate(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    general: Sequence[Prompt] = (),
    spared: Sequence[Prompt] = (),
    generate: bool = True,
    max_tokens: int = MAX_TOKENS,
    on_prompt: Callable[[], None] = lambda: None,
) -> Calibration:
    """Run prompts with the answers that the whole model gives them, greedily, and see what its experts do.

    prompts     of the domain
    general     of text that the domain's experts shall not be chosen without
    spared      of other domains, whose foremost experts shall stay
    generate    False looks at the prompts alone
    max_tokens  of an answer
    on_prompt   called twice for each prompt: when it is answered and when it was looked at

    Raises:
        ProfileError: a model without experts, or with a mask.
        RequestError, TextError, CacheFullError: a prompt that cannot be asked.
        GenerationError: the model's output is not a number.
    """
    check_whole(model)
    described = profiled_model(model)
    asker = _Asker(model, generate, max_tokens, on_prompt)
    learner = HabitLearner(model.config.moe_layers, model.config.n_routed_experts)
    sources = asker.seen(prompts, learner)
    cut_off = asker.cut_off
    others = {"general": asker.seen(general), "spared": asker.seen(spared)}
    return Calibration(described, sources, generate, cut_off, learner.habits, **others)


class _Asker:
    """Lets a model answer prompts, if it is to, and looks at what comes of it.

    cut_off  answers so far that ended at their limit
    """

    def __init__(self, model: Model, generate: bool, max_tokens: int, on_prompt: Callable[[], None]) -> None:
        self._model, self._generate, self._on_prompt = model, generate, on_prompt
        self._options: dict[str, Any] = {
            "temperature": 0,
            "repetition_penalty": 1,
            "max_tokens": max_tokens,
        }
        self.cut_off = 0

    def seen(
        self, prompts: Sequence[Prompt], learner: HabitLearner | None = None
    ) -> dict[str, ExpertStatistics]:
        """What experts did, by source; `learner` is told of every route."""
        sources: dict[str, ExpertStatistics] = {}
        for prompt, (ids, prompt_tokens) in zip(prompts, self._sequences(prompts), strict=True):
            routes = None
            if learner is not None:
                routes = RecordedRoutes(learner.layers, wants_scores=learner.wants_scores)
            name, seen = _name(prompt), observe(self._model, ids, routes)
            sources[name] = sources[name] + seen if name in sources else seen
            if learner is not None and routes is not None:
                learner.learn(routes.ids, routes.scores, prompt_tokens)
            self._on_prompt()
        return sources

    def _sequences(self, prompts: Sequence[Prompt]) -> list[tuple[npt.NDArray[np.int64], int]]:
        """Each prompt's ids with those of its answer, and how many are the prompt's."""
        if self._generate:
            asked = ask(self._model, prompts, lambda answered: self._on_prompt(), **self._options)
            self.cut_off += sum(not one.is_finished for one in asked)
            return [(one.ids, one.prompt_tokens) for one in asked]
        prepared = [self._model.prepare(prompt.messages, **self._options).job.prompt for prompt in prompts]
        # The last token of a sequence does not run; there is none behind a prompt.
        return [(np.append(ids, ids[-1:]), len(ids)) for ids in prepared]


def _name(prompt: Prompt) -> str:
    """Of the source: a family of problems, or a file, or what a file says is of one domain."""
    has_own_domain = prompt.example is None and prompt.domain is not None
    return f"{prompt.source}: {prompt.domain}" if has_own_domain else prompt.source
