"""The naive loop for one sequence: prefill, then one forward pass per token.

It is the definition of what generation means here; anything faster must give the same tokens. It refuses a
prompt that leaves no room in the context. Read `sampling.py` for the choice of a token, `output.py` for the
text, and `nn/model.py` for the forward pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from araio.config import ModelConfig
from araio.engine.output import TextOutput
from araio.engine.request import SamplingParams
from araio.engine.sampling import Sampled, Sampler
from araio.errors import RequestError
from araio.nn.kv_cache import LatentCache
from araio.nn.model import Model
from araio.text.tokenizer import Tokenizer

__all__ = ["PREFILL_CHUNK", "FinishReason", "GeneratedToken", "check_ids", "generate"]

FinishReason: TypeAlias = Literal["stop", "length"]

PREFILL_CHUNK = 512
"""Tokens per forward pass of a prompt: bounds the memory of attention scores, not the result."""


@dataclass(frozen=True)
class GeneratedToken:
    """One token and the text it settled, which may be empty, or belong in part to earlier tokens."""

    sampled: Sampled
    text: str
    finish_reason: FinishReason | None
    """None except on the last token: "stop" at a stop token or string, "length" at a limit."""

    @property
    def id(self) -> int:
        """The token's id in the vocabulary."""
        return self.sampled.id


def generate(
    model: Model,
    prompt_ids: Sequence[int],
    params: SamplingParams,
    *,
    stop_ids: Collection[int] | None = None,
    tokenizer: Tokenizer | None = None,
) -> Iterator[GeneratedToken]:
    """Tokens that follow `prompt_ids`, one by one; the last one carries the finish reason.

    stop_ids   ids that end the text and show no text; the config's `eos_token_id` if None
    tokenizer  turns ids into text; without it every text is empty and `params.stop` must be empty

    Raises:
        RequestError: an id outside the vocabulary, an empty prompt, or one that fills the context; at once.
        GenerationError: logits that are not finite; while iterating.
    """
    check_ids(model.config, prompt_ids, spare=1)
    if params.stop and tokenizer is None:
        raise RequestError("stop strings need a tokenizer; pass one, or pass stop_ids")
    ends = model.config.eos_token_id if stop_ids is None else stop_ids
    room = min(params.max_tokens, model.config.max_position_embeddings - len(prompt_ids))
    return _loop(model, prompt_ids, params, frozenset(ends), room, tokenizer)


def _loop(
    model: Model,
    prompt_ids: Sequence[int],
    params: SamplingParams,
    stop_ids: frozenset[int],
    room: int,
    tokenizer: Tokenizer | None,
) -> Iterator[GeneratedToken]:
    cache = model.new_cache()
    sampler = Sampler(params, prompt_ids, model.config.vocab_size)
    output = TextOutput(tokenizer, params.stop)
    logits = _prefill(model, prompt_ids, cache)
    for position in range(1, room + 1):
        sampled = sampler.sample(logits)
        if sampled.id in stop_ids:
            yield GeneratedToken(sampled, output.flush(), "stop")
            return
        text, is_stopped = output.push(sampled.id)
        if is_stopped:
            yield GeneratedToken(sampled, text, "stop")
            return
        if position == room:
            yield GeneratedToken(sampled, text + output.flush(), "length")
            return
        yield GeneratedToken(sampled, text, None)
        hidden = model.forward(np.array([sampled.id], dtype=np.int64), cache)
        logits = model.logits(hidden)[-1]


def _prefill(model: Model, prompt_ids: Sequence[int], cache: LatentCache) -> npt.NDArray[np.float32]:
    """Run the prompt through the model and return the logits (W,) after its last token."""
    ids = np.asarray(prompt_ids, dtype=np.int64)
    for start in range(0, len(ids), PREFILL_CHUNK):
        hidden = model.forward(ids[start : start + PREFILL_CHUNK], cache)
    # Of the whole prompt only the last row meets the head, which is the widest matrix of the model.
    logits: npt.NDArray[np.float32] = model.logits(hidden[-1:])[0]
    return logits


def check_ids(config: ModelConfig, ids: Sequence[object], spare: int = 0) -> None:
    """Refuse ids that cannot run: none at all, some outside the vocabulary, more than the context holds.

    spare  positions that must stay free behind them

    Raises:
        RequestError: naming the first bad id, or the length, and the limit.
    """
    if len(ids) == 0:
        raise RequestError("the prompt is empty; give at least one token")
    context = config.max_position_embeddings
    if len(ids) + spare > context:
        for_answer = ", one of them for the answer" if spare else ""
        raise RequestError(
            f"the prompt has {len(ids)} tokens and the model's context holds {context}{for_answer}; shorten "
            "the prompt or the conversation"
        )
    for place, token in enumerate(ids):
        is_integer = isinstance(token, int | np.integer) and not isinstance(token, bool)
        if not is_integer or not 0 <= token < config.vocab_size:  # type: ignore[operator]
            raise RequestError(
                f"token {place} of the prompt is {token!r}; expected an integer from 0 to "
                f"{config.vocab_size - 1}, the model's vocabulary"
            )
