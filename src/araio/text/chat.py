"""`ChatFormat`: a conversation as the prompt its model was trained on.

A published DeepSeek template is replaced by its dialect in plain Python; any other one is run in a sandbox.
Either way a control token that somebody typed into a message stays text. Refuses a conversation the format
cannot hold. Read `deepseek.py` for the formats, `reasoning.py` for what happens to the answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from araio.errors import TextError
from araio.text.deepseek import END_THINK, THINK, Message, check_continued
from araio.text.known_templates import find_dialect
from araio.text.marks import Marks
from araio.text.messages import plain_messages
from araio.text.template import render_in_sandbox
from araio.text.tokenizer import Span, Tokenizer
from araio.text.tokenizer_config import TokenizerConfig
from araio.text.tools import Tool, ToolChoice, tools_prompt

__all__ = ["ChatFormat", "Prompt"]

AUTO = ToolChoice()


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

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = AUTO,
        continue_final_message: bool = False,
    ) -> Prompt:
        """The prompt that asks for the next answer.

        messages     `{"role", "content"}` and, for an assistant's, `tool_calls`; reasoning of earlier answers
                     is for templates that read it, DeepSeek's leave it out (`messages.py` has the shapes)
        tools        what the model may call; it is told of them unless `tool_choice` forbids all calls
        continue_final_message
                     the answer goes on with the last message, an assistant's

        Raises TextError for a conversation that the format cannot hold, TemplateError if an unknown template
        fails.
        """
        template = self.config.chat_template
        if template is None:
            raise TextError("this model has no chat template, it is a base model; use a plain completion")
        conversation = plain_messages(messages)
        offered = [] if tool_choice.mode == "none" else list(tools)
        dialect = find_dialect(template)
        if dialect is None:
            spans = self._render_unknown(
                template, conversation, offered, tool_choice, continues=continue_final_message
            )
        else:
            spans = dialect.encode(
                conversation,
                self.config.bos_token or "",
                self.config.eos_token or "",
                notice=tools_prompt(offered, tool_choice) if offered else (),
                continues=continue_final_message,
            )
        return Prompt(
            ids=self.tokenizer.encode_spans(spans),
            text="".join(span.text for span in spans),
            starts_in_reasoning=_ends_in_open_think(spans, is_continued=continue_final_message),
        )

    def _render_unknown(
        self,
        template: str,
        messages: list[dict[str, Any]],
        tools: Sequence[Tool],
        tool_choice: ToolChoice,
        *,
        continues: bool,
    ) -> list[Span]:
        if tools and "tools" not in template:
            messages = _with_notice(tools_prompt(tools, tool_choice), messages)
            tools = ()
        documents = [tool.to_document() for tool in tools]
        try:
            texts = json.dumps([messages, documents], ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TextError(f"the messages are not JSON values: {error}") from error
        marks = Marks.avoiding(texts, {*self.tokenizer.control_tokens, THINK, END_THINK})
        variables: dict[str, Any] = {
            "messages": marks.mark(messages),
            "add_generation_prompt": not continues,
            "bos_token": self.config.bos_token or "",
            "eos_token": self.config.eos_token or "",
            "tools": marks.mark(documents) or None,
        }
        rendered = render_in_sandbox(template, variables)
        return marks.split(_cut_behind(variables["messages"][-1], rendered) if continues else rendered)


def _with_notice(notice: list[Span], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with the notice in front of its first system message, which may be a new one."""
    text = "".join(span.text for span in notice)
    first, *others = messages
    if first.get("role") != "system":
        return [{"role": "system", "content": text}, *messages]
    return [{**first, "content": f"{text}\n\n{first.get('content')}"}, *others]


def _cut_behind(message: Message, rendered: str) -> str:
    """What a template wrote up to the end of the last message's content, which the model goes on with."""
    check_continued(message)
    content = message.get("content")
    said = content.strip() if isinstance(content, str) else ""
    start = rendered.rfind(said) if said else -1
    if start < 0:
        raise TextError(
            "the last message cannot be continued: it has no content, or the chat template does not write it"
        )
    end = start + len(said)
    trailing = str(content)[len(str(content).rstrip()) :]
    return rendered[: end + len(trailing) * rendered.startswith(trailing, end)]


def _ends_in_open_think(spans: list[Span], *, is_continued: bool) -> bool:
    """Whether the format, not a message, has opened the reasoning; a continued message may stand in it."""
    last = next(span for span in reversed(spans) if span.is_trusted or not is_continued)
    return last.is_trusted and last.text.endswith((THINK, THINK + "\n"))
