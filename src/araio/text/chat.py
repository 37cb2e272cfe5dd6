"""`ChatFormat`: a conversation as the prompt its model was trained on.

A published DeepSeek template is replaced by its dialect in plain Python; any other one is run in a sandbox.
Either way a control token that somebody typed into a message stays text. Refuses a conversation the format
cannot hold. Read `deepseek.py` for the formats, `reasoning.py` for what happens to the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from araio.errors import TextError
from araio.text.deepseek import END_THINK, THINK, Message
from araio.text.known_templates import find_dialect
from araio.text.marks import Marks
from araio.text.template import render_in_sandbox
from araio.text.tokenizer import Span, Tokenizer
from araio.text.tokenizer_config import TokenizerConfig

__all__ = ["ChatFormat", "Prompt"]


@dataclass(frozen=True)
class Prompt:
    """What the model is given: token ids, the text they stand for, and where its answer begins."""

    ids: list[int]
    text: str
    starts_in_reasoning: bool


@dataclass(frozen=True)
class ChatFormat:
    """The chat template of one model and the tokenizer that goes with it."""

    tokenizer: Tokenizer
    config: TokenizerConfig

    @classmethod
    def from_folder(cls, path: Path, tokenizer: Tokenizer) -> ChatFormat:
        """Read the chat template of a model folder; raises TextError if its files are malformed.

        A folder without a template is accepted: base models have none, and refuse only to `render`.
        """
        return cls(tokenizer, TokenizerConfig.from_folder(path))

    def render(self, messages: Sequence[Message]) -> Prompt:
        """The prompt that asks for the next answer.

        messages: `{"role", "content"}` and, for an assistant's, `tool_calls`; `reasoning_content` of earlier
        answers is for templates that read it, DeepSeek's leave it out. Raises TextError for a conversation
        that the format cannot hold, TemplateError if an unknown template fails.
        """
        template = self.config.chat_template
        if template is None:
            raise TextError("this model has no chat template, it is a base model; use a plain completion")
        _check_messages(messages)
        dialect = find_dialect(template)
        if dialect is None:
            spans = self._render_unknown(template, messages)
        else:
            spans = dialect.encode(messages, self.config.bos_token or "", self.config.eos_token or "")
        return Prompt(
            ids=self.tokenizer.encode_spans(spans),
            text="".join(span.text for span in spans),
            starts_in_reasoning=_ends_in_open_think(spans),
        )

    def _render_unknown(self, template: str, messages: Sequence[Message]) -> list[Span]:
        try:
            texts = json.dumps(messages, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TextError(f"the messages are not JSON values: {error}") from error
        marks = Marks.avoiding(texts, {*self.tokenizer.control_tokens, THINK, END_THINK})
        variables: dict[str, Any] = {
            "messages": marks.mark(messages),
            "add_generation_prompt": True,
            "bos_token": self.config.bos_token or "",
            "eos_token": self.config.eos_token or "",
            "tools": None,
        }
        return marks.split(render_in_sandbox(template, variables))


def _check_messages(messages: Sequence[Message]) -> None:
    if not messages:
        raise TextError("the conversation is empty; it needs at least one message")
    for message in messages:
        if not isinstance(message, Mapping):
            raise TextError(
                f"a message is a {type(message).__name__}; expected an object with role and content"
            )


def _ends_in_open_think(spans: list[Span]) -> bool:
    """Whether the format, not a message, has opened the reasoning."""
    last = spans[-1]
    return last.is_trusted and last.text.endswith((THINK, THINK + "\n"))
