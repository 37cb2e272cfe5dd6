"""A store of DeepSeek-R1's full shape that fits on a small disk: 61 layers, 256 experts in each of 58.

    .venv/bin/python benchmarks/r1_file.py
    .venv/bin/python benchmarks/r1_file.py --folder FOLDER

Everything is in q4, 377 GB if each layer had experts of its own. Those of all layers are the same bytes here,
of which the disk has one copy: 16 GB in all. A reader past the page cache reads as much as of 377 GB.
Which experts a token chooses differs from layer to layer; decoding the ids from 0 plays a text whose routes
are those of `araio.testing.routes.PESSIMISTIC`, from 2048 on `OPTIMISTIC`. The prediction module is left out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from random_store import FOLDER, kept_store
from routed_weights import RoutedWeights, Text

from araio.config import ModelConfig
from araio.errors import AraioError
from araio.testing.routes import OPTIMISTIC, PESSIMISTIC
from araio.weights.locate import PRESETS

__all__ = ["NAME", "r1", "r1_weights"]

NAME = "r1-q4-same-experts"
TOKENS = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help=f"where the store goes (default {FOLDER})"
    )
    arguments = parser.parse_args()
    try:
        store = kept_store(r1_weights(), arguments.folder / NAME, same_experts=True)
    except AraioError as error:
        parser.error(str(error))
    sizes = {file.stat().st_ino: file.stat().st_size for file in store.iterdir()}
    print(f"{store}: {sum(sizes.values()) / 1e9:.1f} GB of the disk")


def r1() -> ModelConfig:
    """DeepSeek-R1 as published, without its prediction module."""
    return replace(ModelConfig.from_file(PRESETS["deepseek-r1"]), num_nextn_predict_layers=0)


def r1_weights() -> RoutedWeights:
    """Its weights, with one text of little locality and one of more."""
    texts = [Text("pessimistic", PESSIMISTIC, TOKENS, 0), Text("optimistic", OPTIMISTIC, TOKENS, 1)]
    return RoutedWeights(r1(), texts)


if __name__ == "__main__":
    main()
