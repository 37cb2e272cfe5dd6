"""`ChatOptions` and `Forms`: what an answer must look like, and the grammar that holds it to that.

The options have OpenAI's shapes and meanings. Refuses those that no grammar can hold together: a form for the
answer where the model may, but need not, call tools. Read `prepare.py` for the caller, `text/grammar.py` for
the grammars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from araio.engine.effort import Effort
from araio.engine.guide import FormGuide, SingleCallGuide
from araio.engine.profiles import AskedProfile
from araio.engine.tokens import Watch
from araio.errors import RequestError, blaming
from araio.json_reader import shown
from araio.text.deepseek import END_THINK
from araio.text.tokenizer import Tokenizer
from araio.text.tools import Tool, ToolChoice, read_tools

if TYPE_CHECKING:
    from araio.text.grammar import Grammar, GrammarCompiler

__all__ = ["ChatOptions", "Forms"]


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """What may be asked of an answer in a conversation, beside how its tokens are chosen.

    tools            functions that the model may call: `{"type": "function", "function": {...}}`
    tool_choice      "none", "auto", "required", or the one that must be called
    parallel_tool_calls  whether one answer may have several calls; a tool that is named is called once
    response_format  `{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema",
                     "json_schema": {"schema": ...}}`: the answer behind the thinking
    thinking_budget  tokens of thinking after which it is closed; the closing tag comes on top
    effort           the same in words, one of `effort.EFFORTS`; the budget goes before it
    repetition_guard  close a thinking that only repeats itself, and end an answer that does
    continue_final_message  the answer goes on with the last message, an assistant's
    watch_experts    "answer" tells with each new token which experts its position used; "all" does so for
                     the prompt as well, which is run whole then, whatever is in the cache
    profile          answer with the experts that it keeps and no others: an approximation; a profile, or the
                     name of one that the model was given
    """

    tools: Sequence[Mapping[str, Any]] | None = None
    tool_choice: str | Mapping[str, Any] | None = "auto"
    parallel_tool_calls: bool = True
    response_format: Mapping[str, Any] | None = None
    thinking_budget: int | None = None
    effort: Effort | None = None
    repetition_guard: bool = False
    continue_final_message: bool = False
    watch_experts: Watch | None = None
    profile: AskedProfile | None = None

    def read_tools(self) -> tuple[tuple[Tool, ...], ToolChoice]:
        """The tools and the choice among them.

        Raises:
            TextError: they have not the shapes above.
        """
        with blaming("tools"):
            tools = read_tools(self.tools)
        with blaming("tool_choice"):
            return tools, ToolChoice.read(self.tool_choice, tools)


class Forms:
    """Those of one model.

    eos_ids  tokens that end an answer
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_ids = eos_ids
        self._compiling = Lock()
        self._made: GrammarCompiler | None = None

    def guide(
        self, options: ChatOptions, tools: Sequence[Tool], choice: ToolChoice, follows_reasoning: bool
    ) -> FormGuide | SingleCallGuide | None:
        """Holds an answer to its form; None if it is free.

        follows_reasoning  the prompt has opened the thinking, and the form begins behind it

        Raises:
            RequestError: a `response_format` of another shape, or beside tools that may be called; a model
                that ends its thinking with several tokens.
            TextError: a form that no grammar can hold.
        """
        is_json = _is_json(options.response_format)
        if is_json and choice.mode != "none":
            raise RequestError(
                "response_format gives the answer a form, and tools may be called instead; leave one of them "
                "out, or set tool_choice to 'none'",
                param="response_format",
            )
        if not is_json and choice.mode != "required":
            is_single = choice.mode == "auto" and not options.parallel_tool_calls and self._eos_ids
            return SingleCallGuide(self._tokenizer, self._eos_ids[0]) if is_single else None
        if follows_reasoning and END_THINK not in self._tokenizer.control_tokens:
            raise RequestError(
                f"this model's vocabulary has no {END_THINK!r}, so it cannot be told where an answer of a "
                "given form begins; leave out response_format and tools that must be called"
            )
        if is_json:
            assert options.response_format is not None
            return FormGuide(self._json(options.response_format, follows_reasoning).matcher())
        return FormGuide(
            self._compiler.tool_calls(
                choice.candidates(tools),
                follows_reasoning=follows_reasoning,
                # Who names a tool wants it called; the model, which sees no other, would not stop by itself.
                is_parallel=options.parallel_tool_calls and choice.name is None,
            ).matcher()
        )

    @cached_property
    def thinking(self) -> npt.NDArray[np.bool_]:
        """(W,) what may come within the thinking before a form: all but the tokens that end an answer."""
        allowed = np.ones(self._vocab_size, np.bool_)
        allowed[list(self._eos_ids)] = False
        return allowed

    def _json(self, form: Mapping[str, Any], follows_reasoning: bool) -> Grammar:
        if form["type"] == "json_object":
            return self._compiler.json_object(follows_reasoning=follows_reasoning)
        described = form.get("json_schema")
        schema = described.get("schema") if isinstance(described, Mapping) else None
        if not isinstance(schema, Mapping):
            raise RequestError(
                f"response_format.json_schema.schema is {shown(schema)}; expected a JSON schema, an object",
                param="response_format",
            )
        return self._compiler.schema(schema, follows_reasoning=follows_reasoning)

    @property
    def _compiler(self) -> GrammarCompiler:
        # It takes a while to make, and few requests need one. Of those that come at once the first makes it.
        with self._compiling:
            if self._made is None:
                from araio.text.grammar import GrammarCompiler

                self._made = GrammarCompiler(self._tokenizer, self._vocab_size, self._eos_ids)
            return self._made


def _is_json(form: object) -> bool:
    """Whether a `response_format` asks for JSON."""
    if form is None:
        return False
    kind = form.get("type") if isinstance(form, Mapping) else form
    if kind in ("text", "json_object", "json_schema"):
        return kind != "text"
    raise RequestError(
        f"response_format is {shown(form)}; expected an object whose type is 'text', 'json_object' or "
        "'json_schema'",
        param="response_format",
    )
