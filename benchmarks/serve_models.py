"""The models that `serve.py` measures on: a store for araio, and a GGUF of the same numbers for llama.cpp.

`small` is DeepSeek-R1's architecture with 358 million parameters, made within seconds. `lite` is
DeepSeek-V2-Lite, 9 GB in either format; its store is that of `stream_models.py`, linked and not copied. Both
carry the tokens of `serve_vocabulary.py`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from random_store import FOLDER, kept_store
from routed_weights import RoutedWeights, Text, fitted_to
from serve_vocabulary import Vocabulary
from stream_models import stream_store, stream_weights

from araio.config import ModelConfig
from araio.testing.routes import UNIFORM
from araio.testing.shapes import r1_small

__all__ = ["MODELS", "serve_gguf", "serve_store"]

MODELS = ("small", "lite")
TEXT_TOKENS = 1024  # of `small`, whose routes are as given; all others choose nearly at random


def serve_store(model: str, folder: Path = FOLDER) -> Path:
    """The store of a model with a tokenizer, written if it is not there yet.

    Raises AraioError where the disk has too little room, or holds other weights under that name.
    """
    source = stream_store(stream_weights("lite"), "lite", folder) if model == "lite" else _small(folder)
    path = folder / f"serve-{model}"
    if not path.exists():
        unfinished = path.with_name(path.name + ".writing")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for file in source.iterdir():
            os.link(file, unfinished / file.name)
        Vocabulary(ModelConfig.from_file(source)).write(unfinished)
        unfinished.rename(path)
    return path


def serve_gguf(store: Path) -> Path:
    """The GGUF with the numbers and the tokens of a store, beside it; raises AraioError as `serve_store`."""
    from peers.gguf_of_store import kept_gguf  # needs the gguf package, which only a comparison needs

    return kept_gguf(store, store.with_suffix(".gguf"), Vocabulary(ModelConfig.from_file(store)))


def _small(folder: Path) -> Path:
    config = r1_small()
    weights = RoutedWeights(config, [Text("uniform", fitted_to(config, UNIFORM), TEXT_TOKENS, 0)])
    return kept_store(weights, folder / "r1-small-q4-routed")
