"""`completion_choice`: one finished continuation in the shape of OpenAI's older API, with its logprobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from araio.engine.answer import TokenLogprob
from araio.serve.experts import routed_experts
from araio.serve.schema_completions import CompletionRequest, Prompt
from araio.serve.steps import Steps
from araio.text.tokenizer import Tokenizer

__all__ = ["completion_choice", "echoed", "logprobs_of"]


def completion_choice(
    index: int, prompt: Prompt, flow: Steps, body: CompletionRequest, tokenizer: Tokenizer
) -> dict[str, Any]:
    """One of `choices`."""
    answer = flow.answer()
    echo = echoed(prompt, tokenizer) if body.echo else ""
    choice: dict[str, Any] = {
        "index": index,
        "text": echo + answer.content,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
    }
    if body.logprobs is not None:
        choice["logprobs"] = logprobs_of(answer.logprobs or (), len(echo))
    if answer.prompt_logprobs is not None:
        # A text was given an opening token that its author did not write.
        start = int(isinstance(prompt, str) and tokenizer.bos_id is not None)
        first = tokenizer.decode(flow.job.prompt[start : start + 1].tolist())
        scored = prompt_logprobs_of(first, answer.prompt_logprobs[start + 1 :])
        choice["logprobs"] = {key: scored[key] + choice["logprobs"][key] for key in scored}
    if body.return_token_ids:
        choice["prompt_token_ids"] = flow.job.prompt.tolist()
        choice["token_ids"] = flow.ids
    if body.return_routed_experts:
        choice["routed_experts"] = routed_experts(answer, body.routed_experts_prompt_start or 0)
    return choice


def echoed(prompt: Prompt, tokenizer: Tokenizer) -> str:
    """A prompt as text."""
    return prompt if isinstance(prompt, str) else tokenizer.decode(prompt)


def prompt_logprobs_of(first: str, others: Iterable[TokenLogprob | None]) -> dict[str, list[Any]]:
    """Those of a prompt; its first token was not chosen by anybody, and has a text alone."""
    scored = logprobs_of((token for token in others if token is not None), len(first))
    opening = {"tokens": first, "token_logprobs": None, "top_logprobs": None, "text_offset": 0}
    return {key: [opening[key], *entries] for key, entries in scored.items()}


def logprobs_of(tokens: Iterable[TokenLogprob], offset: int = 0) -> dict[str, list[Any]]:
    """Four lists, an entry for each token.

    offset  of the first token in the text, in characters
    """
    document: dict[str, list[Any]] = {
        "tokens": [],
        "token_logprobs": [],
        "top_logprobs": [],
        "text_offset": [],
    }
    for token in tokens:
        document["tokens"].append(token.text)
        document["token_logprobs"].append(token.logprob)
        document["top_logprobs"].append(_top(token))
        document["text_offset"].append(offset)
        offset += len(token.text)
    return document


def _top(token: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens, the one that was chosen among them; of two with one text the likelier counts."""
    top = {token.text: token.logprob}
    for _, text, logprob in token.alternatives:
        top[text] = max(logprob, top.get(text, logprob))
    return top
