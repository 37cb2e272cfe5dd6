"""`completion_choice`: one finished continuation in the shape of OpenAI's older API, with its logprobs.

`Offsets` says where each token begins in the text: behind all characters that the tokens before it complete.
A token that begins inside a character, as where two tokens share one, begins where that character does.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any

from araio.engine.answer import TokenLogprob
from araio.serve.experts import routed_experts
from araio.serve.schema_completions import CompletionRequest, Prompt
from araio.serve.steps import Steps
from araio.text.tokenizer import Tokenizer

__all__ = ["Offsets", "completion_choice", "echoed", "logprobs_of"]


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
        choice["logprobs"] = logprobs_of(answer.logprobs or (), Offsets(len(echo)))
    if answer.prompt_logprobs is not None:
        # A text was given an opening token that its author did not write.
        start = int(isinstance(prompt, str) and tokenizer.bos_id is not None)
        first = tokenizer.token_bytes(int(flow.job.prompt[start])) if len(flow.job.prompt) > start else b""
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


class Offsets:
    """Where tokens begin in a text, in characters, told one by one.

    start  of the first
    """

    def __init__(self, start: int = 0) -> None:
        self._next = start
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def take(self, content: bytes) -> int:
        """Where a token of these bytes begins, which comes next."""
        start = self._next
        self._next += len(self._decoder.decode(content))
        return start


def prompt_logprobs_of(first: bytes, others: Iterable[TokenLogprob | None]) -> dict[str, list[Any]]:
    """Those of a prompt; its first token was not chosen by anybody, and has a text alone."""
    offsets = Offsets()
    offsets.take(first)
    scored = logprobs_of((token for token in others if token is not None), offsets)
    text = first.decode(errors="replace")
    opening = {"tokens": text, "token_logprobs": None, "top_logprobs": None, "text_offset": 0}
    return {key: [opening[key], *entries] for key, entries in scored.items()}


def logprobs_of(tokens: Iterable[TokenLogprob], offsets: Offsets) -> dict[str, list[Any]]:
    """Four lists, an entry for each token.

    offsets  says where each begins in the text
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
        document["text_offset"].append(offsets.take(token.bytes))
    return document


def _top(token: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens, the one that was chosen among them; of two with one text the likelier counts."""
    top = {token.text: token.logprob}
    for _, text, logprob in token.alternatives:
        top[text] = max(logprob, top.get(text, logprob))
    return top
