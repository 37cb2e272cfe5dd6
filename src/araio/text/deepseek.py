"""DeepSeek's chat formats in plain Python: `encode` turns messages into a prompt without running a template.

Each `Dialect` reproduces one published chat template string for string, its quirks included (they are listed
at its fields), because a model has seen no other prompts. What people wrote stays apart from what the format
writes: `encode` returns spans, and only the format's may hold control tokens. Which template is which dialect
is decided in `known_templates.py`; any other template runs in the sandbox of `template.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from araio.errors import TextError
from araio.json_reader import shown
from araio.text.tokenizer import Span

__all__ = ["CONTROL_TOKENS", "Dialect", "Message", "TaggedDialect", "TurnDialect", "check_continued"]

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
THINK = "<think>"
END_THINK = "</think>"
CALLS_BEGIN = "<｜tool▁calls▁begin｜>"
CALLS_END = "<｜tool▁calls▁end｜>"
CALL_BEGIN = "<｜tool▁call▁begin｜>"
CALL_END = "<｜tool▁call▁end｜>"
SEPARATOR = "<｜tool▁sep｜>"
OUTPUTS_BEGIN = "<｜tool▁outputs▁begin｜>"
OUTPUTS_END = "<｜tool▁outputs▁end｜>"
OUTPUT_BEGIN = "<｜tool▁output▁begin｜>"
OUTPUT_END = "<｜tool▁output▁end｜>"

# Every control token of the V3 and R1 chat formats; the first three have the ids 0, 1 and 2 there.
CONTROL_TOKENS = (
    *(BOS, EOS, PAD, USER, ASSISTANT, THINK, END_THINK),
    *(CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEPARATOR),
    *(OUTPUTS_BEGIN, OUTPUTS_END, OUTPUT_BEGIN, OUTPUT_END),
)

Message = Mapping[str, Any]


@dataclass(frozen=True)
class TurnDialect:
    """DeepSeek-V2 and V2-Lite: `User: ...` and `Assistant: ...` in plain words, no tools."""

    def encode(
        self,
        messages: Sequence[Message],
        bos_token: str,
        eos_token: str,
        *,
        notice: Sequence[Span] = (),
        continues: bool = False,
    ) -> list[Span]:
        """The prompt for the next answer, or the last answer left open if the prompt `continues` it.

        Raises TextError for a message the format cannot hold, and for a `notice` of tools.
        """
        if notice:
            raise TextError("this model's format has no tool calls; send the request without tools")
        spans = [_control(bos_token)]
        for message in messages:
            role, content = _role(message, ("system", "user", "assistant")), _content(message)
            if role == "user":
                spans += [_control("User: "), content, _control("\n\n")]
            elif role == "assistant":
                spans += [_control("Assistant: "), content, _control(eos_token)]
            else:
                spans += [content, _control("\n\n")]
        if continues:
            check_continued(messages[-1])
            return spans[:-1]
        return [*spans, _control("Assistant:")]


@dataclass(frozen=True)
class TaggedDialect:
    """DeepSeek-V2.5, V3, R1 and its distillations: turns marked by control tokens, with tool calls."""

    prefills_think: bool = False
    """The prompt ends in `<think>\\n`, so the answer starts inside the reasoning."""
    drops_reasoning: bool = False
    """Of an earlier answer only what follows its last `</think>` is kept (not after a tool's output)."""
    joins_systems: bool = True
    """Several system messages are joined by a blank line; otherwise only the last one survives."""
    indents_systems: bool = False
    """V2.5 writes eight spaces for each system message, in front of everything: a slip of its template."""
    revises_tools: bool = False
    """R1's tool turns: calls count beside content too, one closing follows the last call, nothing parts
    outputs. Before: calls count only where content is null, a closing follows every call but the
    conversation's first, a line break parts outputs."""

    def encode(
        self,
        messages: Sequence[Message],
        bos_token: str,
        eos_token: str,
        *,
        notice: Sequence[Span] = (),
        continues: bool = False,
    ) -> list[Span]:
        """The prompt for the next answer; after a tool's output the answer goes on without a new turn.

        notice     stands in front of the system message, parted from it by a blank line: the request's tools,
                   of which the published templates say nothing
        continues  the prompt ends in the last message, an assistant's, which is left open; where it has
                   reasoning but no content, it is the reasoning that goes on

        The end of a turn is always DeepSeek's own token, whatever `eos_token` says, as in the templates.
        Raises TextError for a message the format cannot hold.
        """
        del eos_token
        turns = _Turns(self)
        for message in messages[:-1] if continues else messages:
            turns.add(message)
        end = turns.leave_open(messages[-1]) if continues else turns.close()
        systems = [_content(message) for message in messages if message["role"] == "system"]
        indent = _control("        " * len(systems) if self.indents_systems else "")
        return [indent, _control(bos_token), *self._system_prompt(notice, systems), *end]

    def _system_prompt(self, notice: Sequence[Span], systems: list[Span]) -> list[Span]:
        kept = systems if self.joins_systems else systems[-1:]
        parts = [*([notice] if notice else []), *([system] for system in kept)]
        return [span for part in parts for span in (_control("\n\n"), *part)][1:]


Dialect = TurnDialect | TaggedDialect


class _Turns:
    """The turns of one conversation as they are written; the flags are those of the published templates."""

    def __init__(self, dialect: TaggedDialect) -> None:
        self._dialect = dialect
        self._spans: list[Span] = []
        self._has_calls = False  # never reset: later turns with tool calls go on with the first one's list
        self._has_outputs = False  # never reset either
        self._is_after_output = False

    def add(self, message: Message) -> None:
        """Write one message; system messages stand in front of the turns and are written by the dialect."""
        role = _role(message, ("system", "user", "assistant", "tool"))
        if role == "user":
            self._spans += [_control(USER), _content(message)]
            self._is_after_output = False
        elif role == "tool":
            self._add_output(_content(message))
        elif role == "assistant" and self._makes_calls(message):
            self._add_calls(message)
            self._is_after_output = False
        elif role == "assistant":
            self._add_answer(_content(message))
            self._is_after_output = False

    def close(self) -> list[Span]:
        """All spans, ending where the model takes over."""
        if self._is_after_output:
            return [*self._spans, _control(OUTPUTS_END)]
        return [*self._spans, _control(ASSISTANT + (THINK + "\n" if self._dialect.prefills_think else ""))]

    def leave_open(self, message: Message) -> list[Span]:
        """All spans, ending in an answer that the model goes on with."""
        check_continued(message)
        reasoning = message.get("reasoning_content")
        if self._is_after_output:
            return [*self._spans, _control(OUTPUTS_END), _content(message)]
        if not (reasoning and self._dialect.drops_reasoning):
            return [*self._spans, _control(ASSISTANT), self._kept(_content(message))]
        spans = [*self._spans, _control(ASSISTANT + THINK + "\n"), Span(str(reasoning), is_trusted=False)]
        if message.get("content"):
            spans += [_control("\n" + END_THINK + "\n\n"), _content(message)]
        return spans

    def _makes_calls(self, message: Message) -> bool:
        if not message.get("tool_calls"):
            return False
        return self._dialect.revises_tools or message.get("content") is None

    def _add_answer(self, content: Span) -> None:
        if self._is_after_output:
            self._spans += [_control(OUTPUTS_END), content, _control(EOS)]
        else:
            self._spans += [_control(ASSISTANT), self._kept(content), _control(EOS)]

    def _kept(self, content: Span) -> Span:
        if not self._dialect.drops_reasoning:
            return content
        return Span(content.text.split(END_THINK)[-1], is_trusted=False)

    def _add_calls(self, message: Message) -> None:
        closing = _control(CALLS_END + EOS)
        for call in message["tool_calls"]:
            if not self._has_calls:
                said = [] if message.get("content") is None else [_content(message)]
                self._spans += [_control(ASSISTANT), *said, _control(CALLS_BEGIN), *_call(call)]
                self._has_calls = True
            else:
                self._spans += [_control("\n"), *_call(call)]
                if not self._dialect.revises_tools:
                    self._spans.append(closing)
        if self._dialect.revises_tools:
            self._spans.append(closing)

    def _add_output(self, content: Span) -> None:
        later_opening = "" if self._dialect.revises_tools else "\n"
        opening = later_opening if self._has_outputs else OUTPUTS_BEGIN
        self._spans += [_control(opening + OUTPUT_BEGIN), content, _control(OUTPUT_END)]
        self._has_outputs = self._is_after_output = True


def _control(text: str) -> Span:
    return Span(text, is_trusted=True)


def _role(message: Message, known: tuple[str, ...]) -> str:
    role = message.get("role")
    if role in known:
        return str(role)
    raise TextError(f"a message has the role {shown(role)}; this model's format knows {', '.join(known)}")


def _content(message: Message) -> Span:
    content = message.get("content")
    if isinstance(content, str):
        return Span(content, is_trusted=False)
    raise TextError(
        f"a message of role {message['role']!r} has {_kind(content)} as content; expected a string"
        + (" (or tool_calls beside null)" if message["role"] == "assistant" else "")
    )


def check_continued(message: Message) -> None:
    """Raises TextError unless the message is an assistant's text, which an answer may go on with."""
    if message.get("role") != "assistant" or message.get("tool_calls"):
        found = (
            "it has tool calls" if message.get("tool_calls") else f"its role is {shown(message.get('role'))}"
        )
        raise TextError(f"the last message cannot be continued: {found}; expected an assistant's text")


def _call(call: object) -> list[Span]:
    """One tool call in OpenAI's shape: `{"type": ..., "function": {"name": ..., "arguments": JSON text}}`."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise TextError(f"a tool call is {shown(call)}; expected an object with 'type' and 'function'")
    parts = {"type": call.get("type"), "name": function.get("name"), "arguments": function.get("arguments")}
    for name, part in parts.items():
        if not isinstance(part, str):
            raise TextError(f"'{name}' of a tool call is {_kind(part)}; expected a string")
    kind, function_name, arguments = (Span(str(part), is_trusted=False) for part in parts.values())
    return [
        *(_control(CALL_BEGIN), kind, _control(SEPARATOR), function_name),
        *(_control("\n```json\n"), arguments, _control("\n```" + CALL_END)),
    ]


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
