"""The naive loop for one sequence: prefill, then one forward pass per token.

It is the definition of what generation means here; the engine gives the same tokens, faster and for many
requests at a time. It refuses a prompt that leaves no room in the context. Read `sampling.py` for the choice
of a token, `tokens.py` for what becomes of it, and `engine.py` for the fast twin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from araio.engine.guide import Guide
from araio.engine.request import SamplingParams, check_prompt, room_for
from araio.engine.sampling import Sampler
from araio.engine.tokens import Emitter, GeneratedToken
from araio.nn.kv_cache import LatentCache
from araio.nn.mask import ExpertMask
from araio.nn.model import Model
from araio.text.tokenizer import Tokenizer

__all__ = ["PREFILL_CHUNK", "generate"]

PREFILL_CHUNK = 512
"""Tokens per forward pass of a prompt: bounds the memory of attention scores, not the result."""


def generate(
    model: Model,
    prompt_ids: Sequence[int],
    params: SamplingParams,
    *,
    stop_ids: Collection[int] | None = None,
    tokenizer: Tokenizer | None = None,
    guide: Guide | None = None,
    mask: ExpertMask | None = None,
) -> Iterator[GeneratedToken]:
    """Tokens that follow `prompt_ids`, one by one; the last one carries the finish reason.

    stop_ids   ids that end the text and show no text; the config's `eos_token_id` if None
    tokenizer  turns ids into text; without it every text is empty and `params.stop` must be empty
    guide      of this request, at its beginning; it forces tokens, or says which may be chosen
    mask       the experts that it may use; None for all

    Raises:
        RequestError: an id outside the vocabulary, an empty prompt, or one that fills the context; at once.
        GenerationError: logits that are not finite; while iterating.
    """
    check_prompt(model.config, prompt_ids, params, has_tokenizer=tokenizer is not None)
    ends = model.config.eos_token_id if stop_ids is None else stop_ids
    room = room_for(model.config, prompt_ids, params)
    if not room:
        return iter(())
    emitter = Emitter(tokenizer, params, ends, room)
    sampler = Sampler(params, prompt_ids, model.config.vocab_size, guide)
    return _loop(model, prompt_ids, sampler, emitter, mask)


def _loop(
    model: Model, prompt_ids: Sequence[int], sampler: Sampler, emitter: Emitter, mask: ExpertMask | None
) -> Iterator[GeneratedToken]:
    cache = model.new_cache()
    logits = _prefill(model, prompt_ids, cache, mask)
    while True:
        token = emitter.emit(sampler.sample(logits))
        yield token
        if token.finish_reason is not None:
            return
        hidden = model.forward(np.array([token.id], dtype=np.int64), cache, absorbed=True, mask=mask)
        logits = model.logits(hidden)[-1]


def _prefill(
    model: Model, prompt_ids: Sequence[int], cache: LatentCache, mask: ExpertMask | None
) -> npt.NDArray[np.float32]:
    """Run the prompt through the model and return the logits (W,) after its last token."""
    ids = np.asarray(prompt_ids, dtype=np.int64)
    for start in range(0, len(ids), PREFILL_CHUNK):
        hidden = model.forward(ids[start : start + PREFILL_CHUNK], cache, mask=mask)
    # Of the whole prompt only the last row meets the head, which is the widest matrix of the model.
    logits: npt.NDArray[np.float32] = model.logits(hidden[-1:])[0]
    return logits
