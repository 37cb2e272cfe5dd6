"""The models that `stream.py` measures on: V2-Lite in q4 as a store and as a GGUF of the same numbers.

    .venv/bin/python benchmarks/stream_models.py

writes both to ~/.cache/araio/bench, 8.9 GB each. Its vocabulary begins with three texts: `uniform` routes
without any locality, `fitted` as V2-Lite does on legal text, `domains` likewise with a new subject every 200
tokens. A `small` one of the same kind is there within a second.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from random_store import FOLDER, kept_store
from routed_weights import RoutedWeights, Text, fitted_to

from araio.config import ModelConfig
from araio.errors import AraioError
from araio.testing.routes import DOMAINS, FITTED, UNIFORM
from araio.testing.shapes import lite

__all__ = ["MODELS", "TEXTS", "small", "stream_gguf", "stream_store", "stream_weights"]

TEXTS = {"fitted": FITTED, "uniform": UNIFORM, "domains": DOMAINS}
TOKENS = {"lite": 2048, "small": 1024}


def small() -> ModelConfig:
    """V2-Lite with 5 layers and a tenth of its width: 4 x 64 experts of 0.1 MB in q4."""
    return replace(
        lite(),
        hidden_size=512,
        intermediate_size=512,
        moe_intermediate_size=128,
        num_hidden_layers=5,
        num_attention_heads=4,
        q_lora_rank=128,  # which llama.cpp wants of models with other than 27 layers
        kv_lora_rank=64,
        vocab_size=4096,
        bos_token_id=None,
        eos_token_id=(),
    )


MODELS: dict[str, Callable[[], ModelConfig]] = {"lite": lite, "small": small}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="lite")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where they go (default {FOLDER})")
    arguments = parser.parse_args()
    try:
        store = stream_store(stream_weights(arguments.model), arguments.model, arguments.folder)
        gguf = stream_gguf(store)
    except AraioError as error:
        parser.error(str(error))
    print(f"{store}: {sum(file.stat().st_size for file in store.iterdir()) / 1e9:.3f} GB")
    print(f"{gguf}: {gguf.stat().st_size / 1e9:.3f} GB")


def stream_weights(model: str) -> RoutedWeights:
    config = MODELS[model]()
    texts = [
        Text(name, fitted_to(config, recipe), TOKENS[model], seed)
        for seed, (name, recipe) in enumerate(TEXTS.items())
    ]
    return RoutedWeights(config, texts)


def stream_store(weights: RoutedWeights, model: str, folder: Path = FOLDER) -> Path:
    """The store of a model, written if it is not there yet."""
    return kept_store(weights, folder / f"{model}-q4-routed")


def stream_gguf(store: Path) -> Path:
    """The GGUF with the numbers of a store, beside it."""
    from peers.gguf_of_store import kept_gguf  # needs the gguf package, which only a comparison needs

    return kept_gguf(store, store.with_suffix(".gguf"))


if __name__ == "__main__":
    main()
