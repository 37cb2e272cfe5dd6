"""`GrammarCompiler`, `Grammar` and `Matcher`: which tokens may come next if an answer must have a form.

A form is a JSON schema, any JSON object, or tool calls in DeepSeek's format whose arguments follow the tools'
schemas. llguidance keeps track of it; here are our tokenizer in its terms, limits on what a schema may cost,
and errors of our own. Within JSON no control token is ever allowed, and the token that ends the answer is
allowed exactly where the form is complete. Read `tools.py` for tools; the engine applies the masks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from araio.errors import TextError
from araio.text.deepseek import CALL_BEGIN, CALL_END, CALLS_BEGIN, CALLS_END, SEPARATOR
from araio.text.json_schema import LIMITS, find_fault, schema_text
from araio.text.native_errors import native_errors
from araio.text.tokenizer import Tokenizer
from araio.text.tools import Tool

__all__ = ["Grammar", "GrammarCompiler", "Matcher"]

# A model that makes calls without end is stopped here.
MAX_CALLS = 16

# Clients send the same schema with every request, and a request for several answers brings it several times.
KEPT_GRAMMARS = 32

COMPLAINT = "the form that the answer must have cannot be followed"
ADVICE = "make it simpler"


class GrammarCompiler:
    """Makes grammars for one model, and keeps the latest. Takes up to a second to make, for 129,000 tokens.

    Safe to use from several threads.
    """

    def __init__(self, tokenizer: Tokenizer, n_rows: int, eos_ids: Sequence[int]) -> None:
        """For logits of `n_rows` (W) entries, of which those without a token are never allowed.

        eos_ids  the tokens that end an answer
        Raises TextError if there is none, or if the tokenizer has more tokens than the model.
        """
        if not eos_ids:
            raise TextError("this model names no token that ends an answer, so no answer can be given a form")
        if tokenizer.vocab_size > n_rows:
            raise TextError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {n_rows}; they belong to "
                "different models"
            )
        self._tokenizer = tokenizer
        self._n_rows = n_rows
        vocabulary = TokenizerWrapper(_Vocabulary(tokenizer, n_rows, eos_ids[0]))
        self._vocabulary = LLTokenizer(vocabulary, eos_token=list(eos_ids), slices=LLTokenizer.json_slices())
        self._grammar = lru_cache(KEPT_GRAMMARS)(self._made)

    def json_object(self, *, follows_reasoning: bool = False) -> Grammar:
        """The form "any JSON object"."""
        return self.schema({"type": "object"}, follows_reasoning=follows_reasoning)

    def schema(self, schema: Mapping[str, Any], *, follows_reasoning: bool = False) -> Grammar:
        """The form "JSON that is valid under `schema`", with its properties in the schema's order.

        follows_reasoning  the blank line behind `</think>` may come first
        Raises TextError, with a JSON pointer, for a schema that cannot be satisfied, uses keywords that no
        grammar can hold (`not`, `if`, `uniqueItems`, look-around in a pattern, ...), or exceeds a limit.
        """
        start = _blank_line(follows_reasoning) + "%json " + schema_text(schema)
        return self._compile("start: " + start, {"the JSON schema": schema})

    def tool_calls(
        self, tools: Sequence[Tool], *, follows_reasoning: bool = False, is_parallel: bool = True
    ) -> Grammar:
        """The form "calls of these tools", in DeepSeek's format.

        tools        those that may be called, at least one
        is_parallel  several calls may follow each other
        Raises TextError for a model without DeepSeek's tokens for tool calls, and as `schema` does.
        """
        assert tools
        begin, end, separator = map(self._control, (CALL_BEGIN, CALL_END, SEPARATOR))
        calls = f"{self._control(CALLS_BEGIN)} call {self._control(CALLS_END)}"
        if is_parallel:
            calls = calls.replace(" call ", f' call ("\\n" call){{0,{MAX_CALLS - 1}}} ')
        lines = [
            f"start: {_blank_line(follows_reasoning)}{calls}",
            "call: " + " | ".join(f"call_{index}" for index in range(len(tools))),
        ]
        for index, tool in enumerate(tools):
            head = json.dumps(tool.name + "\n```json\n")
            lines += [
                f'call_{index}: {begin} "function" {separator} {head} arguments_{index} "\\n```" {end}',
                f"arguments_{index}: %json {schema_text(tool.parameters)}",
            ]
        schemas = {f"the parameters of the tool {tool.name!r}": tool.parameters for tool in tools}
        return self._compile("\n".join(lines), schemas)

    def _compile(self, lark: str, schemas: Mapping[str, Mapping[str, Any]]) -> Grammar:
        try:
            return self._grammar(lark)
        except TextError as error:
            for name, schema in schemas.items():
                fault = find_fault(schema)
                if fault is not None:
                    raise TextError(f"{name} cannot be used, at {fault}") from None
            raise TextError(f"{' and '.join(schemas)} cannot be used: {error}") from None

    def _made(self, lark: str) -> Grammar:
        with native_errors(COMPLAINT, ADVICE):
            native = LLMatcher(self._vocabulary, lark, log_level=0, limits=LIMITS)
        grammar = Grammar(native, self._n_rows)
        # Some forms turn out to be impossible, or too large, only when the first mask is computed.
        grammar.matcher().mask()
        return grammar

    def _control(self, token: str) -> str:
        """A control token in the grammar's notation."""
        token_id = self._tokenizer.token_id(token)
        if token_id is None or token not in self._tokenizer.control_tokens:
            raise TextError(
                f"this model cannot be made to call tools: its vocabulary has no {token!r}; "
                'use tool_choice "auto" or "none"'
            )
        return f"<[{token_id}]>"


class Grammar:
    """A compiled form. Immutable; any number of answers may follow it at once."""

    def __init__(self, pristine: LLMatcher, n_rows: int) -> None:
        self._pristine = pristine
        self._n_rows = n_rows

    def matcher(self) -> Matcher:
        """A matcher for one answer, at its beginning."""
        with native_errors(COMPLAINT, ADVICE):
            return Matcher(self._pristine.deep_copy(), self._n_rows)


class Matcher:
    """Follows one answer, token by token. For one thread at a time."""

    def __init__(self, native: LLMatcher, n_rows: int) -> None:
        self._native = native
        self._n_rows = n_rows

    @property
    def is_finished(self) -> bool:
        """Whether the form is complete, so that nothing but the token that ends the answer can follow."""
        return self._native.is_stopped()

    def mask(self) -> npt.NDArray[np.bool_]:
        """Which tokens may come next, (W,); at least one is. Costs some 10 us.

        Raises TextError if the form became too complex to follow.
        """
        bits = allocate_token_bitmask(1, self._n_rows)
        with native_errors(COMPLAINT, ADVICE):
            fill_next_token_bitmask(self._native, bits)
        self._check()
        allowed = np.unpackbits(bits.view(np.uint8)[0], count=self._n_rows, bitorder="little")
        return allowed.view(np.bool_)

    def accept(self, token_id: int) -> None:
        """Take the next token; raises TextError for one that `mask` does not allow."""
        with native_errors(COMPLAINT, ADVICE):
            is_taken = self._native.consume_token(token_id)
        if not is_taken:
            self._check()

    def _check(self) -> None:
        if self._native.is_error():
            reason = self._native.get_error().splitlines()[0]
            raise TextError(f"nothing more can follow in the form that the answer must have: {reason}")


class _Vocabulary:
    """A `Tokenizer` in the terms of llguidance, which calls it to see how forced text is written."""

    def __init__(self, tokenizer: Tokenizer, n_rows: int, eos_id: int) -> None:
        self.eos_token_id = eos_id
        self.bos_token_id = tokenizer.bos_id
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(n_rows)]
        self.special_token_ids = [
            token_id for token_id in map(tokenizer.token_id, tokenizer.control_tokens) if token_id is not None
        ]
        self._encode = tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def _blank_line(may_come: bool) -> str:
    return '"\\n\\n"? ' if may_come else ""
