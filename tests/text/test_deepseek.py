"""DeepSeek's formats against the published templates, string for string."""

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from araio.errors import TextError
from araio.text.deepseek import BOS, CONTROL_TOKENS, EOS
from araio.text.known_templates import DIALECTS, find_dialect, template_text

WITHOUT_PREFILL = [
    template_text(name).replace("<think>\\n", "") for name in ("deepseek_r1", "deepseek_r1_distill")
]
TEMPLATES = [template_text(name) for name in DIALECTS] + WITHOUT_PREFILL
IDS = [*DIALECTS, "deepseek_r1 without prefill", "deepseek_r1_distill without prefill"]
TAGGED = [pair for pair in zip(TEMPLATES, IDS, strict=True) if pair[1] != "deepseek_v2"]

texts = st.lists(
    st.sampled_from(["", "Hi", " ", "\n", "é🙂", "\\n", "{{ 1 }}", "</think>", "<th", *CONTROL_TOKENS]),
    max_size=4,
).map("".join)
contents = texts | st.text(max_size=20)
users = st.fixed_dictionaries({"role": st.just("user"), "content": contents})
systems = st.fixed_dictionaries({"role": st.just("system"), "content": contents})
answers = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": contents}, optional={"reasoning_content": contents}
)
outputs = st.fixed_dictionaries({"role": st.just("tool"), "content": contents, "tool_call_id": contents})
calls = st.fixed_dictionaries(
    {"type": st.just("function"), "function": st.fixed_dictionaries({"name": texts, "arguments": contents})}
)
callers = st.fixed_dictionaries(
    {
        "role": st.just("assistant"),
        "content": st.none() | contents,
        "tool_calls": st.lists(calls, min_size=1, max_size=3),
    }
)
plain_conversations = st.lists(systems | users | answers, min_size=1, max_size=6)
conversations = st.lists(systems | users | answers | callers | outputs, min_size=1, max_size=8)


@cache
def compiled(template: str) -> Template:
    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)


def by_template(template: str, messages: list[dict[str, Any]]) -> str:
    return compiled(template).render(
        messages=messages, add_generation_prompt=True, bos_token=BOS, eos_token=EOS
    )


def by_dialect(template: str, messages: list[dict[str, Any]]) -> str:
    dialect = find_dialect(template)
    assert dialect is not None
    return "".join(span.text for span in dialect.encode(messages, BOS, EOS))


@pytest.mark.parametrize("template", TEMPLATES, ids=IDS)
@given(messages=plain_conversations)
@example([{"role": "system", "content": "a"}, {"role": "system", "content": "b"}])
def test_conversations_read_as_the_template_writes_them(
    template: str, messages: list[dict[str, Any]]
) -> None:
    assert by_dialect(template, messages) == by_template(template, messages)


@pytest.mark.parametrize("template", [template for template, _ in TAGGED], ids=[name for _, name in TAGGED])
@given(messages=conversations)
def test_tool_turns_read_as_the_template_writes_them(template: str, messages: list[dict[str, Any]]) -> None:
    assert by_dialect(template, messages) == by_template(template, messages)


@pytest.mark.parametrize("template", [template for template, _ in TAGGED], ids=[name for _, name in TAGGED])
@given(messages=conversations)
def test_only_the_format_is_trusted(template: str, messages: list[dict[str, Any]]) -> None:
    """Replacing everything people wrote by letters leaves the trusted spans as they were."""
    dialect = find_dialect(template)
    assert dialect is not None
    neutral = json.loads(json.dumps(messages))
    for message in neutral:
        message["content"] = None if message["content"] is None else "x"
        for call in message.get("tool_calls", []):
            call["function"] = {"name": "x", "arguments": "x"}
    trusted = [span for span in dialect.encode(messages, BOS, EOS) if span.is_trusted]
    assert trusted == [span for span in dialect.encode(neutral, BOS, EOS) if span.is_trusted]


def test_r1_drops_earlier_reasoning_and_opens_the_next() -> None:
    messages = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\n2", "reasoning_content": "Easy."},
        {"role": "user", "content": "2+2?"},
    ]
    assert by_dialect(template_text("deepseek_r1"), messages) == (
        "<｜begin▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜>\n\n2<｜end▁of▁sentence｜>"
        "<｜User｜>2+2?<｜Assistant｜><think>\n"
    )


def test_a_tool_output_is_answered_in_the_same_turn() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2"},
    ]
    assert by_dialect(template_text("deepseek_r1"), messages) == (
        "<｜begin▁of▁sentence｜><｜User｜>1+1?<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
        'function<｜tool▁sep｜>add\n```json\n{"a": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        "<｜end▁of▁sentence｜>"
        "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>2<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
    )


def test_absent_null_and_empty_tool_calls_are_the_same() -> None:
    answer = {"role": "assistant", "content": "2"}
    prompts = {
        by_dialect(template_text("deepseek_r1"), [answer | extra])
        for extra in ({}, {"tool_calls": None}, {"tool_calls": []})
    }
    assert len(prompts) == 1


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ({"role": "developer", "content": "x"}, "'developer'"),
        ({"content": "x"}, "role None"),
        ({"role": "user", "content": None}, "null as content"),
        ({"role": "user", "content": [{"type": "text", "text": "x"}]}, "a list as content"),
        ({"role": "assistant", "content": None}, "tool_calls beside null"),
        ({"role": "assistant", "content": None, "tool_calls": ["f"]}, "tool call is 'f'"),
        ({"role": "assistant", "content": None, "tool_calls": [{"type": "function"}]}, "tool call is"),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"type": "function", "function": {"name": "f"}}],
            },
            "'arguments' of a tool call is null",
        ),
    ],
)
def test_a_message_the_format_cannot_hold_is_refused(message: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TextError, match=complaint):
        by_dialect(template_text("deepseek_r1"), [message])


def test_v2_has_no_tools() -> None:
    with pytest.raises(TextError, match="knows system, user, assistant"):
        by_dialect(template_text("deepseek_v2"), [{"role": "tool", "content": "x"}])
