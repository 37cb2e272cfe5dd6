"""`usage`: the token counts of an answer under every name that clients look for, and its receipt.

`prompt_tokens_details` and `completion_tokens_details` are OpenAI's, the hits and misses of the prompt cache
DeepSeek's. What stands under `araio` is the receipt of `costs/receipt.py`, some of it under shorter names as
well, which clients of servers may look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from araio.engine.answer import Answer
from araio.serve.steps import Steps

__all__ = ["receipt_of", "running_usage", "usage_of", "usage_of_prompts"]


def receipt_of(answer: Answer) -> dict[str, Any]:
    """The receipt of an answer under its own names, and the short ones of servers beside them."""
    receipt = answer.receipt
    streamed = receipt.streamed
    return {
        **receipt.to_json(),
        "weight_bytes_read": receipt.weight_bytes,
        "experts_loaded": 0 if streamed is None else streamed.prefetched + streamed.missed,
        "cache_hit_rate": receipt.expert_hits,
        "gco2e": receipt.grams_co2e,
        "cost": receipt.money,
    }


def usage_of(answers: Sequence[Answer]) -> dict[str, Any]:
    """The usage of a request with one prompt and one or several answers to it; the prompt counts once."""
    first = answers[0].usage
    counted = counts(
        first["prompt_tokens"],
        first["prompt_tokens_details"]["cached_tokens"],
        sum(answer.usage["completion_tokens"] for answer in answers),
        sum(answer.usage["completion_tokens_details"]["reasoning_tokens"] for answer in answers),
    )
    receipts = [receipt_of(answer) for answer in answers]
    return {**counted, "araio": receipts[0] if len(receipts) == 1 else {"choices": receipts}}


def usage_of_prompts(prompts: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """The usage of a request with several prompts, each with its answers."""
    each = [usage_of(answers) for answers in prompts]
    if len(each) == 1:
        return each[0]
    summed = counts(
        sum(usage["prompt_tokens"] for usage in each),
        sum(usage["prompt_cache_hit_tokens"] for usage in each),
        sum(usage["completion_tokens"] for usage in each),
        sum(usage["completion_tokens_details"]["reasoning_tokens"] for usage in each),
    )
    return {**summed, "araio": {"prompts": [usage["araio"] for usage in each]}}


def running_usage(flows: Sequence[Steps]) -> dict[str, Any]:
    """The usage so far, without a receipt."""
    job = flows[0].job
    return counts(
        len(job.prompt),
        job.cached_tokens,
        sum(flow.generation.completion_tokens for flow in flows),
        sum(flow.generation.reasoning_tokens for flow in flows),
    )


def counts(prompt: int, cached: int, completion: int, reasoning: int) -> dict[str, Any]:
    """Tokens of a request: prompt = hit + miss, and the reasoning is a part of the completion."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
        "prompt_cache_hit_tokens": cached,
        "prompt_cache_miss_tokens": prompt - cached,
    }
