"""The splitter against its definition on whole texts, over every way to cut them."""

import json
import re
from itertools import count, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from araio.text.deepseek import CALL_BEGIN, CALL_END, CALLS_BEGIN, CALLS_END, SEPARATOR
from araio.text.tool_calls import ToolCall, ToolCallDelta, ToolCallSplitter, new_call_id


def call(name: str, arguments: str) -> str:
    return f"{CALL_BEGIN}function{SEPARATOR}{name}\n```json\n{arguments}\n```{CALL_END}"


ADD = call("add", '{"a": 1}')
TAGS = [CALLS_BEGIN, CALL_BEGIN, SEPARATOR, CALL_END, CALLS_END]
outputs = st.lists(
    st.sampled_from(
        [
            *TAGS,
            *(tag[:7] for tag in TAGS),
            *(CALLS_BEGIN + ADD, "\n" + ADD + CALLS_END, f"{CALL_BEGIN}function{SEPARATOR}f\n```json\n"),
            *("\n", " " * 9, "`", "```", "json\n", "{}", "function", "f", "<", "é", '"', "\\"),
        ]
    ),
    max_size=12,
).map("".join)

Pieces = list[str | ToolCallDelta]


def split(pieces: list[str]) -> Pieces:
    numbers = count()
    splitter = ToolCallSplitter(lambda: f"call_{next(numbers)}")
    found = [part for piece in pieces for part in splitter.push(piece)] + splitter.flush()
    assert all(part for part in found if isinstance(part, str))
    assert joined_calls(found) == list(splitter.calls)
    return found


def joined_calls(parts: Pieces) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for part in parts:
        if isinstance(part, str):
            continue
        if part.index == len(calls):
            assert part.id is not None
            assert part.name is not None
            calls.append(ToolCall(part.id, part.name, part.arguments))
        else:
            assert (part.index, part.id, part.name) == (len(calls) - 1, None, None)
            last = calls[-1]
            calls[-1] = ToolCall(last.id, last.name, last.arguments + part.arguments)
    return calls


def joined(parts: Pieces) -> list[str | ToolCall]:
    """Content and calls in order, without the seams between pieces."""
    calls, whole = joined_calls(parts), list[str | ToolCall]()
    for part in parts:
        if isinstance(part, str) and whole and isinstance(whole[-1], str):
            whole[-1] += part
        elif isinstance(part, str):
            whole.append(part)
        elif part.id is not None:
            whole.append(calls[part.index])
    return whole


@given(text=outputs, cuts=st.lists(st.integers(0, 400), max_size=10))
def test_cuts_change_nothing(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert joined(split(pieces)) == joined(split([text]))


@given(text=outputs)
@example(CALLS_BEGIN + ADD + "\n" + ADD + CALLS_END)
@example(CALLS_BEGIN + call("f", "{} ```") + CALLS_END)
@example(CALLS_BEGIN + call("f", "{}" + " " * 20) + CALLS_END)
def test_characters_one_by_one_change_nothing(text: str) -> None:
    assert joined(split(list(text))) == joined(split([text]))


@given(text=outputs)
def test_nothing_is_lost(text: str) -> None:
    """What is in no tag, no head and no fence comes out, in order."""
    kept = [part if isinstance(part, str) else part.name + part.arguments for part in joined(split([text]))]
    assert re.findall("[é{}1]", "".join(kept)) == re.findall("[é{}1]", text)


@given(
    calls=st.lists(
        st.tuples(
            st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True), st.text('{}[]:,"ab1 é\n`<', max_size=30)
        ),
        max_size=3,
    ),
    content=st.text("ab\n<`", max_size=10),
)
def test_what_the_format_writes_is_read(calls: list[tuple[str, str]], content: str) -> None:
    calls = [(name, "{" + arguments + "}") for name, arguments in calls]
    listed = CALLS_BEGIN + "\n".join(call(*one) for one in calls) + CALLS_END if calls else ""
    expected = [ToolCall(f"call_{index}", *one) for index, one in enumerate(calls)]
    assert joined(split(list(content + listed))) == [*([content] if content else []), *expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("plain", ["plain"]),
        (CALLS_BEGIN, [CALLS_BEGIN]),
        (CALLS_BEGIN + CALLS_END, [CALLS_BEGIN + CALLS_END]),
        (CALLS_BEGIN + "words", [CALLS_BEGIN + "words"]),
        (ADD, [ADD]),  # outside of a list it is not a call
        (
            CALLS_BEGIN + CALL_BEGIN + "function" + SEPARATOR,
            [CALLS_BEGIN + CALL_BEGIN + "function" + SEPARATOR],
        ),
        (CALLS_BEGIN + call("a b", "{}"), [CALLS_BEGIN + call("a b", "{}")]),
        (CALLS_BEGIN + call("f" * 65, "{}"), [CALLS_BEGIN + call("f" * 65, "{}")]),
        (f"{CALLS_BEGIN}\n{ADD}\n{CALLS_END}", [ToolCall("call_0", "add", '{"a": 1}')]),
        (f"{CALLS_BEGIN}{ADD}{CALLS_END} so", [ToolCall("call_0", "add", '{"a": 1}'), " so"]),
        (f"{CALLS_BEGIN}{ADD} so {ADD}", [ToolCall("call_0", "add", '{"a": 1}'), f" so {ADD}"]),
        (
            f"{CALLS_BEGIN}{ADD}{CALLS_END}\n{CALLS_BEGIN}{ADD}{CALLS_END}",
            [ToolCall("call_0", "add", '{"a": 1}'), "\n", ToolCall("call_1", "add", '{"a": 1}')],
        ),
        (CALLS_BEGIN + call("f", "not json"), [ToolCall("call_0", "f", "not json")]),
        (CALLS_BEGIN + ADD.removesuffix("\n```" + CALL_END), [ToolCall("call_0", "add", '{"a": 1}')]),
        (CALLS_BEGIN + ADD.removesuffix(CALL_END), [ToolCall("call_0", "add", '{"a": 1}')]),
        (CALLS_BEGIN + ADD.replace("\n```" + CALL_END, CALL_END), [ToolCall("call_0", "add", '{"a": 1}')]),
        (CALLS_BEGIN + ADD.replace("json", ""), [ToolCall("call_0", "add", '{"a": 1}')]),
        (CALLS_BEGIN + ADD.replace(CALL_END, CALLS_END), [ToolCall("call_0", "add", '{"a": 1}')]),
        # Within a string a tag is what the string says, as in a question about tags.
        *(
            (f"{CALLS_BEGIN}{call('f', said)}{CALLS_END}", [ToolCall("call_0", "f", said)])
            for said in (
                json.dumps({"a": CALL_END, "b": [f'"{CALLS_END}', f"\\{CALL_BEGIN}", 1]}, ensure_ascii=False),
                json.dumps({f"\n```{CALL_END}": "\\"}, ensure_ascii=False),
                f'{{"{CALL_END}":',
                '{"a": "never closed',
                '{"a": "a line break\nin it", "b": 1}',
            )
        ),
    ],
)
def test_examples(text: str, expected: list[str | ToolCall]) -> None:
    assert joined(split([text])) == expected


def test_arguments_are_given_out_as_they_come() -> None:
    splitter = ToolCallSplitter(lambda: "call_x")
    assert splitter.push("so<") == ["so"]
    assert splitter.push(CALLS_BEGIN[1:] + ADD[: ADD.index('{"a')]) == [ToolCallDelta(0, "call_x", "add", "")]
    assert splitter.push('{"a"') == [ToolCallDelta(0, None, None, '{"a"')]
    assert splitter.push(": 1}\n``") == [ToolCallDelta(0, None, None, ": 1}")]
    assert splitter.push("`" + CALL_END[:4]) == []
    assert splitter.push(CALL_END[4:] + CALLS_END) == []
    assert splitter.flush() == []


def test_an_id_has_24_hexadecimal_digits() -> None:
    assert re.fullmatch("call_[0-9a-f]{24}", new_call_id())
    assert new_call_id() != new_call_id()
