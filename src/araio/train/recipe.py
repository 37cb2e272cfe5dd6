"""A training recipe: everything that decides what a run computes, in one TOML file.

`Recipe.from_file` refuses unknown keys and values out of range by name, with the known ones listed. The same
recipe, seed and thread count give the same weights on the same machine. `recipes/pocket.toml` is the example.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from araio.config import ModelConfig
from araio.errors import ConfigError, ModelNotFoundError, RecipeError
from araio.expert_profile.group_rule import least_per_group
from araio.train.recipe_table import build, require
from araio.train.stages import KINDS, PROSE, AnyStage, SampleStage, Stage
from araio.weights.locate import locate

__all__ = ["PROSE", "OptimizerRecipe", "Recipe", "Stage", "require"]

DTYPES = ("float32", "bfloat16")
OPTIMIZERS = ("adamw", "muon")
ROW_ALIGNMENT = 8
"""`F.grouped_mm` wants rows of whole 16 bytes: eight numbers of bfloat16."""


@dataclass(frozen=True)
class OptimizerRecipe:
    """Which optimizer moves the matrices, and what all parameters share."""

    name: str = "adamw"
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0

    def check(self) -> None:
        require(self.name in OPTIMIZERS, "optimizer.name", self.name, "one of " + ", ".join(OPTIMIZERS))
        require(0 <= self.weight_decay < 10, "optimizer.weight_decay", self.weight_decay, "0 to below 10")
        require(self.clip > 0, "optimizer.clip", self.clip, "a number above 0")
        for key, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            require(0 <= beta < 1, f"optimizer.{key}", beta, "0 to below 1")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    start_from  a bundled model or a checkpoint's folder, whose config, weights and tokenizer the run begins
                with; random weights of the config in [model] if there is none
    """

    name: str
    model: ModelConfig
    stages: tuple[AnyStage, ...]
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    seed: int = 0
    dtype: str = "float32"
    start_from: str | None = None
    warmup_steps: int = 0
    tokenizer_characters: int = 100_000
    log_every: int = 10
    checkpoint_every: int = 200

    def check(self) -> None:
        is_folder_name = re.fullmatch(r"[\w-][\w.-]*", self.name) is not None
        require(is_folder_name, "name", self.name, "letters, digits, '-', '_' and '.', as of a folder")
        require(0 <= self.seed < 1 << 63, "seed", self.seed, "an integer from 0 to below 2 ** 63")
        require(self.dtype in DTYPES, "dtype", self.dtype, "one of " + ", ".join(DTYPES))
        require(bool(self.stages), "stages", [], "at least one [[stages]] table")
        for key in ("log_every", "checkpoint_every", "tokenizer_characters"):
            require(getattr(self, key) > 0, key, getattr(self, key), "an integer above 0")
        require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "an integer of at least 0")
        check_model(self.model)
        self.optimizer.check()
        names = [stage.name for stage in self.stages if not isinstance(stage, Stage)]
        require(
            len(set(names)) == len(names),
            "stages",
            names,
            "a name of its own for each that samples or reinforces",
        )
        for index, stage in enumerate(self.stages):
            stage.check()
            if isinstance(stage, Stage):
                check_pool(stage, self.model)
                check_samples(stage, self.stages[:index])
            check_length(stage, self.model)

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def families(self) -> list[str]:
        """Families that any stage draws from, in order of first use."""
        shares = [item for stage in self.stages for mix in (stage.mix, stage.beyond) for item in mix.items()]
        return list(dict.fromkeys(name for name, share in shares if share > 0))

    def stage_at(self, step: int) -> tuple[int, int]:
        """Index of the stage that holds `step`, and the step's number within it."""
        for index, stage in enumerate(self.stages):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        raise AssertionError("step lies behind the last stage")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, warm-up included."""
        index, within = self.stage_at(step)
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.stages[index].learning_rate_at(within) * warmup

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        """Read a recipe; a mistake is a RecipeError that names the file, the key and what was expected."""
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RecipeError(f"{path}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path}: is not UTF-8 text ({error.reason})") from None
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{path}: is not valid TOML: {error}") from None
        try:
            return cls.from_dict(document)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Recipe:
        """Build from a parsed document; the mistakes are those of `from_file`, without the file's name."""
        values = dict(document)
        values["model"] = read_model(values)
        values["optimizer"] = build(OptimizerRecipe, values.get("optimizer", {}), "optimizer")
        stages = values.get("stages", [])
        require(isinstance(stages, list), "stages", stages, "a list of [[stages]] tables")
        values["stages"] = tuple(read_stage(stage, f"stages[{i}]") for i, stage in enumerate(stages))
        recipe = build(cls, values, "")
        recipe.check()
        return recipe


def read_stage(table: Any, where: str) -> AnyStage:
    """A stage of the kind that its table says; one that says none learns."""
    require(isinstance(table, dict), where, table, "a table")
    kind = table.get("kind", Stage.kind)
    require(isinstance(kind, str) and kind in KINDS, f"{where}.kind", kind, "one of " + ", ".join(KINDS))
    return build(KINDS[kind], {key: value for key, value in table.items() if key != "kind"}, where)


def read_model(document: Mapping[str, Any]) -> ModelConfig:
    """The config of a recipe: in its table, or that of the checkpoint it starts from."""
    start_from, table = document.get("start_from"), document.get("model")
    if (start_from is None) == (table is None):
        missing = "is missing; expected a table with the keys of a config.json"
        raise RecipeError(f"[model] {missing if table is None else 'and start_from exclude each other'}")
    try:
        if table is not None:
            return ModelConfig.from_dict(table)
        require(isinstance(start_from, str), "start_from", start_from, "a name or a folder")
        return ModelConfig.from_file(locate(str(start_from)))
    except (ConfigError, ModelNotFoundError) as error:
        raise RecipeError(f"{'[model]' if table is not None else 'start_from:'} {error}") from None


def check_model(model: ModelConfig) -> None:
    """Refuse what can be run but not trained here; contradictions were refused by the config itself."""
    require(
        len(model.moe_layers) > 0,
        "model.n_routed_experts",
        model.n_routed_experts,
        "routed experts in at least one layer behind first_k_dense_replace",
    )
    for key in ("hidden_size", "moe_intermediate_size"):
        size = getattr(model, key)
        require(size % ROW_ALIGNMENT == 0, f"model.{key}", size, f"a multiple of {ROW_ALIGNMENT}")
    mtp = model.num_nextn_predict_layers
    require(mtp <= 1, "model.num_nextn_predict_layers", mtp, "0 or 1, the depths that are trained here")
    quantization = model.quantization_config
    require(
        quantization is None, "model.quantization_config", quantization, "none; weights are not quantised"
    )


def check_samples(stage: Stage, earlier: tuple[AnyStage, ...]) -> None:
    """Refuse samples that no stage before has written."""
    names = [other.name for other in earlier if isinstance(other, SampleStage)]
    require(
        stage.samples is None or stage.samples in names,
        f"stage {stage.name!r}: samples",
        stage.samples,
        "an earlier stage of the kind sample" + (": " + ", ".join(names) if names else ""),
    )


def check_pool(stage: Stage, model: ModelConfig) -> None:
    """Refuse pools that leave a token without its experts, and what would work against them."""
    if stage.expert_pool is None:
        return
    where, groups = f"stage {stage.name!r}:", model.choice_groups
    sizes = range(least_per_group(model) * groups, model.n_routed_experts + 1, groups)
    pool = stage.expert_pool
    is_range = len(pool) == 2 and all(type(size) is int and size in sizes for size in pool)
    require(
        is_range and pool[0] <= pool[1],
        f"{where} expert_pool",
        pool,
        f"the smallest and the largest size, {sizes.start} to {model.n_routed_experts} in steps of {groups}",
    )
    require(
        stage.balance_weight == 0,
        f"{where} balance_weight",
        stage.balance_weight,
        "0 in a stage with expert_pool: a balance within documents works against their pools",
    )


def check_length(stage: AnyStage, model: ModelConfig) -> None:
    """Refuse rows, lists and positions that the model, the row or the family has no room for."""
    where, context, row = f"stage {stage.name!r}:", model.max_position_embeddings, stage.sequence_length
    require(
        row <= context,
        f"{where} sequence_length",
        row,
        f"at most model.max_position_embeddings = {context}",
    )
    if not isinstance(stage, Stage):
        return
    lengths = stage.list_tokens
    if lengths is not None:
        is_range = len(lengths) == 2 and all(type(length) is int for length in lengths)
        require(
            is_range and 1 <= lengths[0] <= lengths[1] <= row,
            f"{where} list_tokens",
            lengths,
            f"the shortest and the longest list, 1 to sequence_length = {row} tokens",
        )
    span = stage.position_span
    require(
        span is None or row <= span <= context,
        f"{where} position_span",
        span,
        f"sequence_length = {row} to model.max_position_embeddings = {context}",
    )
