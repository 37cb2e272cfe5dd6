"""What a run needs before its first step: its tokenizer, and the streams that its batches come from.

All stages' data are set up at once: a mistake in the last one should not wait for hours. Refused are a
vocabulary that is too small, rows too short for a family, and prose without a folder. Read `data.py` for what
a batch holds, `loop.py` for what is done with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from araio.config import ModelConfig
from araio.errors import TrainingError
from araio.text.tokenizer import Tokenizer
from araio.train.data import PROSE_CHARACTERS, BatchStream, DataSplit, DocumentSource, Encoder, read_prose
from araio.train.recipe import PROSE, Recipe, Stage, require
from araio.train.start import copy_tokenizer
from araio.train.tokenizer import save_tokenizer, tokenizer_texts, train_tokenizer
from araio.weights.locate import locate

__all__ = ["Streams", "make_folder", "prepare_streams", "prepare_tokenizer"]


@dataclass(frozen=True)
class Streams:
    """Where a run's batches come from.

    stages          one stream for each stage
    validation      for each family of the last stage, held-out documents of that family alone
    validation_mix  the family's share of the tokens in the last stage
    """

    stages: list[BatchStream]
    validation: dict[str, BatchStream]
    validation_mix: dict[str, float]


def prepare_streams(recipe: Recipe, tokenizer: Tokenizer, prose_folder: Path | None) -> Streams:
    """The streams of a recipe; RecipeError where a family finds no room or no text."""
    encoder = Encoder(tokenizer)

    def stream(stage: Stage, mix: Mapping[str, float], split: DataSplit) -> BatchStream:
        source = DocumentSource(
            encoder,
            mix,
            stage.sequence_length,
            prose_folder,
            split,
            stage.list_tokens,
            stage.position_span,
        )
        return BatchStream(source, stage.rows, stage.sequence_length, recipe.seed)

    last = recipe.stages[-1]
    mix = {family: share for family, share in last.mix.items() if share > 0}
    return Streams(
        stages=[stream(stage, stage.mix, "train") for stage in recipe.stages],
        validation={family: stream(last, {family: 1.0}, "test") for family in mix},
        validation_mix=mix,
    )


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
