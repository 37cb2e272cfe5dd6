"""The process that runs araio for `araio_process.py`: one store, under a budget of memory or whole.

The first line on stdin is `{"store": "FOLDER", "ram": BYTES or null, "threads": N}`, every other one has
tokens to play, as in `llama_cpp_worker.py`. Every line is answered with one on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from araio.errors import AraioError
from araio.kernels.ops import Int64Array
from araio.kernels.select import select
from araio.nn.batch import Routes, Segment
from araio.nn.kv_cache import LatentCache
from araio.weights.load import Memory, open_model

PLAY_ROOM = 1024  # tokens that can be played in a row


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "store" in command:
                player = Player(**command)
                answer = player.description()
            else:
                answer = player.play(**command)
        except AraioError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


class Player:
    """A model and the sequence that it plays."""

    def __init__(self, store: str, ram: int | None, threads: int) -> None:
        ops = select("native", threads=threads).ops
        # What is locked away looks like neighbours in need; what an earlier run left would be an advantage.
        memory = Memory(ram, cache_tokens=PLAY_ROOM, gives_way=False, remembers=False)
        self.loaded = open_model(Path(store), ops, memory)
        self.model = self.loaded.network
        self.cache = LatentCache(self.model.new_pool(PLAY_ROOM))

    def description(self) -> dict[str, Any]:
        """The parts of the budget, in bytes, and how many experts have room."""
        return asdict(self.loaded.budget)

    def play(self, ids: list[int], fresh: bool, together: bool, watched: bool) -> dict[str, Any]:
        """Run tokens that are given, once, behind those of the last call if they are not `fresh`."""
        if fresh:
            self.cache.truncate(0)
        tokens = np.array(ids)
        routes: list[list[list[int]]] = []
        started = time.perf_counter()
        if together:
            for at in range(0, len(tokens), self.loaded.budget.chunk):
                hidden = self.model.forward(tokens[at : at + self.loaded.budget.chunk], self.cache)
            self.model.logits(hidden[-1:])
        else:
            routes = [self.step(token) for token in tokens[:, None]]
        seconds = time.perf_counter() - started
        counters = asdict(self.loaded.experts.counters) if self.loaded.experts else {}
        return {"seconds": seconds, "experts": routes if watched else [], "counters": counters}

    def step(self, token: Int64Array) -> list[list[int]]:
        """One token, with logits; the experts of each routed layer."""
        chosen = Routes()
        hidden = self.model.step([Segment(token, self.cache, absorbed=True)], chosen)
        self.model.logits(hidden)
        self.cache.advance(1)
        return [ids[0].tolist() for ids in chosen.ids]


if __name__ == "__main__":
    main()
