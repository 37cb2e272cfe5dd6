"""What a run needs before its first step: its tokenizer, and the streams that its batches come from.

All stages' data are set up at once: a mistake in the last one should not wait for hours. Refused are a
vocabulary that is too small, rows too short for a family, and prose without a folder. Read `data.py` for what
a batch holds, `loop.py` for what is done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from araio.config import ModelConfig
from araio.errors import TrainingError
from araio.text.tokenizer import Tokenizer
from araio.train.blend import Blend
from araio.train.data import (
    PROSE_CHARACTERS,
    BatchStream,
    Documents,
    DocumentSource,
    Encoder,
    read_prose,
)
from araio.train.reason.samples import SampledDocuments, samples_path
from araio.train.recipe import PROSE, Recipe, Stage, require
from araio.train.stages import AnyStage, SampleStage
from araio.train.start import copy_tokenizer
from araio.train.tokenizer import save_tokenizer, tokenizer_texts, train_tokenizer
from araio.weights.locate import locate

__all__ = ["Streams", "make_folder", "prepare_streams", "prepare_tokenizer"]


VALIDATION_ROWS = 16
"""Rows of a held-out batch where the stage it is like has none of its own."""


@dataclass(frozen=True)
class Streams:
    """Where a run's batches come from.

    stages          one stream for each stage; None for those that make what they learn from
    validation      for each family of the last stage, held-out documents of that family alone
    validation_mix  the family's share of the tokens in the last stage
    """

    stages: list[BatchStream | None]
    validation: dict[str, BatchStream]
    validation_mix: dict[str, float]


def prepare_streams(recipe: Recipe, tokenizer: Tokenizer, prose_folder: Path | None, folder: Path) -> Streams:
    """The streams of a recipe; RecipeError where a family finds no room or no text.

    folder  of the run, where stages of sampling leave their answers
    """
    encoder = Encoder(tokenizer)

    def held_out(family: str, stage: AnyStage) -> BatchStream:
        source = DocumentSource(
            encoder, {family: 1.0}, stage.sequence_length, prose_folder, "test", **lists_of(stage)
        )
        rows = stage.rows if isinstance(stage, Stage) else VALIDATION_ROWS
        return BatchStream(source, rows, stage.sequence_length, recipe.seed)

    stages: list[BatchStream | None] = []
    for stage in recipe.stages:
        stream = None
        if isinstance(stage, Stage):
            source = documents_of(stage, encoder, prose_folder, folder)
            stream = BatchStream(source, stage.rows, stage.sequence_length, recipe.seed)
        stages.append(stream)
    last = last_mixed(recipe)
    return Streams(
        stages=stages,
        validation={family: held_out(family, last) for family in shares_of(last)},
        validation_mix=shares_of(last),
    )


def documents_of(stage: Stage, encoder: Encoder, prose_folder: Path | None, folder: Path) -> Documents:
    """A stage's documents: problems in the trained ranges, or beyond them, or samples, or a blend."""
    length = stage.sequence_length
    parts: list[tuple[Documents, Callable[[], float]]] = []
    if sum(stage.mix.values()) > 0:
        within = DocumentSource(encoder, stage.mix, length, prose_folder, **lists_of(stage))
        parts.append((within, lambda: sum(within.rates)))
    if sum(stage.beyond.values()) > 0:
        beyond = DocumentSource(encoder, stage.beyond, length, None, "beyond-train")
        parts.append((beyond, lambda: sum(beyond.rates)))
    if stage.samples is not None:
        samples = SampledDocuments(samples_path(folder, stage.samples), encoder, length)
        parts.append((samples, lambda: stage.samples_share / samples.mean_length))
    return parts[0][0] if len(parts) == 1 else Blend(parts)


def lists_of(stage: AnyStage) -> dict[str, Any]:
    """What a stage says of the lists of `recall`, as keywords of a `DocumentSource`."""
    if not isinstance(stage, Stage):
        return {}
    return {"list_tokens": stage.list_tokens, "position_span": stage.position_span}


def last_mixed(recipe: Recipe) -> AnyStage:
    """The last stage with a mixture of its own, if it can be one that moves weights."""
    mixed = [stage for stage in recipe.stages if shares_of(stage)]
    return next((stage for stage in reversed(mixed) if not isinstance(stage, SampleStage)), mixed[-1])


def shares_of(stage: AnyStage) -> dict[str, float]:
    """Families with a share, those beyond the trained ranges as well."""
    total: dict[str, float] = {}
    for mix in (stage.mix, stage.beyond):
        for family, share in mix.items():
            total[family] = total.get(family, 0.0) + share
    return {family: share for family, share in total.items() if share > 0}


def prepare_tokenizer(recipe: Recipe, folder: Path, prose_folder: Path | None, has_state: bool) -> Tokenizer:
    """Read the run's tokenizer; unless there is a state that was made with it, train or copy it first.

    Before the first state it is always trained anew, so a start that failed leaves nothing to trip over.

    Raises:
        RecipeError: the model has no row for a token, or there is no prose where it is asked for.
        TrainingError: the folder cannot be written.
    """
    model = recipe.model
    if not (has_state and folder.exists()):
        make_folder(folder)
        if recipe.start_from is not None:
            copy_tokenizer(locate(recipe.start_from), folder)
        else:
            tokenizer = train_tokenizer(texts(recipe, prose_folder), model.vocab_size)
            save_tokenizer(tokenizer, folder, model.max_position_embeddings)
    saved = Tokenizer.from_folder(folder)
    check_vocabulary(saved, model)
    return saved


def texts(recipe: Recipe, prose_folder: Path | None) -> Iterator[str]:
    """What the tokenizer is trained on."""
    tasks = [family for family in recipe.families if family != PROSE]
    prose = read_prose(prose_folder, PROSE_CHARACTERS) if PROSE in recipe.families else []
    return tokenizer_texts(tasks, recipe.tokenizer_characters, prose, recipe.seed)


def check_vocabulary(tokenizer: Tokenizer, model: ModelConfig) -> None:
    """Refuse a model that has no row for a token, or names other ids for the first and the last one."""
    size = tokenizer.vocab_size
    require(
        size <= model.vocab_size,
        "model.vocab_size",
        model.vocab_size,
        f"at least the {size} tokens there are",
    )
    for key, found, token in (
        ("bos_token_id", model.bos_token_id, tokenizer.bos_id),
        ("eos_token_id", next(iter(model.eos_token_id), None), tokenizer.eos_id),
    ):
        require(found == token, f"model.{key}", found, f"{token}, as in every tokenizer that is trained here")


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be created ({error.strerror})") from None
