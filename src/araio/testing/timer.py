"""`ModelTimer`: the seconds and joules that a model takes for a prompt, and for tokens behind it.

A given token has a random id, so that experts are chosen as they come; what is cached before it may be made
up, since attention costs the same whatever it sees. The prediction module is left alone. Read `turns.py` for
how speeds are made of these seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from araio.codecs import codec
from araio.kernels.ops import PAGE, Int64Array
from araio.kernels.select import select
from araio.meters.energy import Energy
from araio.meters.meter import Meter
from araio.nn.batch import Segment
from araio.nn.kv_cache import LatentCache, LatentPool
from araio.nn.model import Model

__all__ = ["ModelTimer"]

SHORT_CONTEXT = 16  # positions before the tokens of sequences that are decoded together


class ModelTimer:
    """Times one model in this process.

    threads  of the compiled operations during the next call, and from then on in the whole process; may be
             changed between calls. NumPy's operations take no notice
    meter    of the joules that `energy` has
    energy   of the latest call; None without a meter
    """

    def __init__(self, model: Model, threads: int = 1, seed: int = 0, meter: Meter | None = None) -> None:
        self.model = model
        self.threads = threads
        self.meter = meter
        self.energy: Energy | None = None
        self._rng = np.random.default_rng(seed)

    def prefill(self, tokens: int) -> float:
        """Seconds for a prompt of `tokens`, up to the logits of its last."""
        select("auto", threads=self.threads)
        ids = self._ids(tokens)
        cache = LatentCache(self.model.new_pool(tokens))
        return self._timed(lambda: self.model.logits(self.model.forward(ids, cache)[-1:]))

    def decode(self, tokens: int, context: int = 0) -> float:
        """Seconds for `tokens` tokens, one by one, with logits each, after `context` cached ones."""
        return self._decode(1, tokens, context)

    def decode_together(self, sequences: int, tokens: int) -> float:
        """Seconds for `tokens` steps in each of which `sequences` sequences are given a token."""
        return self._decode(sequences, tokens, SHORT_CONTEXT)

    def _decode(self, sequences: int, tokens: int, context: int) -> float:
        select("auto", threads=self.threads)
        pool = self.model.new_pool(sequences * (context + tokens + PAGE))
        caches = [self._filled(pool, context) for _ in range(sequences)]
        ids = self._ids(tokens * sequences).reshape(tokens, sequences, 1)

        def run() -> None:
            for step in ids:
                segments = [
                    Segment(one, cache, absorbed=True) for one, cache in zip(step, caches, strict=True)
                ]
                self.model.logits(self.model.step(segments))
                for cache in caches:
                    cache.advance(1)

        return self._timed(run)

    def _timed(self, run: Callable[[], object]) -> float:
        """The seconds of a call; its joules become `energy`."""
        start = self.meter.mark() if self.meter else None
        started = time.perf_counter()
        run()
        seconds = time.perf_counter() - started
        if self.meter and start:
            self.energy = self.meter.between(start, self.meter.mark())
        return seconds

    def _filled(self, pool: LatentPool, context: int) -> LatentCache:
        """A sequence of `context` positions with made-up latents, as large as real ones."""
        cache = LatentCache(pool)
        cache.reserve(context)
        numbers = self._rng.standard_normal((PAGE, pool.layer(0).shape[2]), dtype=np.float32)
        made_up = codec("bf16").encode(numbers)
        for layer in range(self.model.config.num_hidden_layers):
            pool.layer(layer)[cache.pages] = made_up.bits
        cache.advance(context)
        return cache

    def _ids(self, count: int) -> Int64Array:
        return self._rng.integers(0, self.model.config.vocab_size, count)
