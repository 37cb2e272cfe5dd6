"""Whatever a model gives out, both dialects tell it in events that their clients read and that add up."""

from itertools import pairwise

import anthropic.types
import openai.types.responses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from araio.engine.answer import ContentDelta, ReasoningDelta, Step, ToolCallDelta
from araio.serve.messages_events import MessageEvents
from araio.serve.responses_events import ResponseEvents
from araio.serve.schema_messages import MessagesRequest
from araio.serve.schema_responses import ResponsesRequest

RESPONSES = TypeAdapter(openai.types.responses.ResponseStreamEvent)
MESSAGES = TypeAdapter(anthropic.types.RawMessageStreamEvent)
PIECES = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
LEAST = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@st.composite
def outputs(draw):
    """The steps of an answer: thinking and text in any order, then calls."""
    text = st.text(min_size=1, max_size=5)
    deltas = draw(st.lists(st.one_of(st.builds(ReasoningDelta, text), st.builds(ContentDelta, text))))
    for index in range(draw(st.integers(0, 3))):
        deltas.append(ToolCallDelta(index, f"call_{index}", "add", draw(st.text(max_size=5))))
        deltas += [ToolCallDelta(index, None, None, piece) for piece in draw(st.lists(text, max_size=3))]
    cuts = draw(st.lists(st.integers(0, len(deltas)), max_size=5))
    edges = [0, *sorted(cuts), len(deltas)]
    pieces = [deltas[start:stop] for start, stop in pairwise(edges)]
    return [Step(0, piece, None, False, None) for piece in pieces]


def told(made, steps, answer):
    return [*made.start(), *(event for step in steps for event in made.take(step)), *made.finish(answer)]


def runs(steps):
    """What was given out, run by run: its kind, or the number of its call, and its text."""
    found = []
    for delta in (delta for step in steps for delta in step.deltas):
        is_call = isinstance(delta, ToolCallDelta)
        kind = delta.index if is_call else type(delta)
        if not found or found[-1][0] != kind:
            found.append((kind, ""))
        found[-1] = kind, found[-1][1] + (delta.arguments if is_call else delta.text)
    return [text for _, text in found]


@LEAST
@given(steps=outputs())
def test_responses(answered, steps):
    made = ResponseEvents(ResponsesRequest(input="2 + 2"), "resp-1", "pocket")
    events = [RESPONSES.validate_python(event, strict=True) for event in told(made, steps, answered[1])]
    document = made.document.model_dump()
    openai.types.responses.Response.model_validate(document, strict=True)
    texts = [
        item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"]
        for item in document["output"]
    ]
    pieces = [""] * len(texts)
    for event in events:
        if event.type.endswith(".delta"):
            pieces[event.output_index] += event.delta
    assert pieces == texts == runs(steps)


@LEAST
@given(steps=outputs())
def test_messages(answered, steps):
    request = MessagesRequest(model="pocket", max_tokens=9, messages=[{"role": "user", "content": "2 + 2"}])
    made = MessageEvents(request, "msg-1", "pocket", 5)
    events = [
        MESSAGES.validate_python(event, strict=True)
        for event in told(made, steps, answered[1])
        if event["type"] != "ping"
    ]
    anthropic.types.Message.model_validate(made.document.model_dump(), strict=True)
    pieces = [""] * len(made.document.content)
    for event in events:
        if event.type == "content_block_delta" and event.delta.type in PIECES:
            pieces[event.index] += getattr(event.delta, PIECES[event.delta.type])
    assert pieces == runs(steps)
