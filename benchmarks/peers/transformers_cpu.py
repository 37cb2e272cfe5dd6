"""Hugging Face transformers on the CPU as a peer, in the process that measures araio.

It is what its users get: `from_pretrained` with one dtype, its own choice of attention and of experts, a
`DynamicCache`, logits of the last token alone. It needs torch and transformers, from the extra `test`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from araio.kernels.ops import IntArray
from araio.tensors import Float32Array
from araio.testing.timer import SHORT_CONTEXT

__all__ = ["DType", "Transformers"]

DType: TypeAlias = Literal["float32", "bfloat16"]


class Transformers:
    """A checkpoint's folder, loaded in one dtype.

    threads  of PyTorch in the next call
    """

    def __init__(self, folder: Path, dtype: DType) -> None:
        self.threads = 1
        # In eval mode, as `from_pretrained` leaves every model.
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self._random = torch.Generator().manual_seed(0)

    def logits(self, ids: IntArray, decoded: int) -> Float32Array:
        """Logits (T, W) after every one of T ids, the last `decoded` of which come one by one."""
        cache = DynamicCache(config=self.model.config)
        first = len(ids) - decoded
        pieces = [torch.from_numpy(ids[None, :first]), *_columns(torch.from_numpy(ids[None, first:]))]
        with torch.inference_mode():
            found = [self.model(piece, past_key_values=cache).logits[0].float().numpy() for piece in pieces]
        return np.concatenate(found)

    def prefill(self, tokens: int) -> float:
        """Seconds for a prompt of `tokens`, up to the logits of its last."""
        ids = self._ids(1, tokens)
        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            started = time.perf_counter()
            self._step(ids, DynamicCache(config=self.model.config))
            return time.perf_counter() - started

    def decode(self, tokens: int, context: int = 0) -> float:
        """Seconds for `tokens` tokens, one by one, with logits each, after `context` computed ones."""
        return self._decode(1, tokens, context)

    def decode_together(self, sequences: int, tokens: int) -> float:
        """Seconds for `tokens` steps in each of which `sequences` sequences are given a token."""
        return self._decode(sequences, tokens, SHORT_CONTEXT)

    def _decode(self, sequences: int, tokens: int, context: int) -> float:
        torch.set_num_threads(self.threads)
        cache = DynamicCache(config=self.model.config)
        with torch.inference_mode():
            if context:
                self._step(self._ids(sequences, context), cache)
            steps = _columns(self._ids(sequences, tokens))
            started = time.perf_counter()
            for ids in steps:
                self._step(ids, cache)
            return time.perf_counter() - started

    def _step(self, ids: torch.Tensor, cache: DynamicCache) -> None:
        self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def _ids(self, sequences: int, tokens: int) -> torch.Tensor:
        size = (sequences, tokens)
        return torch.randint(self.model.config.vocab_size, size, generator=self._random)


def _columns(ids: torch.Tensor) -> list[torch.Tensor]:
    """(B, T) ids as T steps of (B, 1)."""
    return [ids[:, at : at + 1] for at in range(ids.shape[1])]
