"""`check_kept`: how much may be kept of a request's tokens for whoever asked, told before it runs.

The experts of every position, and the log-probabilities of a prompt, stay in memory until the answer is
given. Both grow with the context, and several requests run at a time. Read `job.py` for the caller.
"""

from __future__ import annotations

from araio.config import ModelConfig
from araio.engine.request import SamplingParams
from araio.errors import RequestError

__all__ = ["MOST_EXPERT_BYTES", "MOST_LOGPROBS", "check_kept"]

MOST_EXPERT_BYTES = 64 << 20
MOST_LOGPROBS = 1 << 19  # of tokens and their alternatives, of which each takes some 500 bytes
ROUTE_BYTES = 8  # an id and a weight


def check_kept(
    config: ModelConfig, params: SamplingParams, prompt: int, room: int, *, keeps_experts: bool
) -> None:
    """Refuse what would take too much memory, counted at the most.

    prompt  tokens of it
    room    tokens that may follow

    Raises:
        RequestError: with what is asked for and what may be.
    """
    position_bytes = len(config.moe_layers) * config.num_experts_per_tok * ROUTE_BYTES
    if keeps_experts and (prompt + room) * position_bytes > MOST_EXPERT_BYTES:
        raise RequestError(
            f"the experts of {prompt + room} positions take more than {MOST_EXPERT_BYTES >> 20} MiB; prompt "
            f"and max_tokens together may come to at most {MOST_EXPERT_BYTES // position_bytes} positions",
            param="max_tokens",
        )
    alternatives = params.prompt_logprobs or 0
    if params.prompt_logprobs is not None and prompt * (1 + alternatives) > MOST_LOGPROBS:
        raise RequestError(
            f"log-probabilities of a prompt of {prompt} tokens with {alternatives} alternatives each are too "
            f"many; at most {MOST_LOGPROBS // (1 + alternatives)} tokens are scored with so many",
            param="prompt_logprobs",
        )
