"""`completion_choice`: one finished continuation in the shape of OpenAI's older API, with its logprobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from araio.engine.answer import TokenLogprob
from araio.serve.experts import routed_experts
from araio.serve.schema_completions import CompletionRequest, Prompt
from araio.serve.worker import Steps
from araio.text.tokenizer import Tokenizer

__all__ = ["completion_choice", "echoed", "logprobs_of"]


def completion_choice(index: int, echo: str, flow: Steps, body: CompletionRequest) -> dict[str, Any]:
    """One of `choices`.

    echo  the prompt's text, if it was asked for
    """
    answer = flow.generation.answer()
    choice: dict[str, Any] = {
        "index": index,
        "text": echo + answer.content,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
    }
    if body.logprobs is not None:
        choice["logprobs"] = logprobs_of(answer.logprobs or (), len(echo))
    if body.return_token_ids:
        choice["prompt_token_ids"] = flow.job.prompt.tolist()
        choice["token_ids"] = flow.ids
    if body.return_routed_experts:
        choice["routed_experts"] = routed_experts(answer, body.routed_experts_prompt_start or 0)
    return choice


def echoed(prompt: Prompt, tokenizer: Tokenizer) -> str:
    """A prompt as text; the token that opens every sequence is no part of what was asked."""
    return prompt if isinstance(prompt, str) else tokenizer.decode(prompt)


def logprobs_of(tokens: Sequence[TokenLogprob], offset: int = 0) -> dict[str, Any]:
    """Four lists, an entry for each token; nothing is known of the first of a prompt but its text.

    offset  of the first token in the text, in characters
    """
    document: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
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
