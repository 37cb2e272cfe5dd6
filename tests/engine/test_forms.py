"""Answers of a given form, and calls of tools: behind the thinking, whatever the model would rather say."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import araio
from araio.engine.forms import ChatOptions, Forms
from araio.engine.generation import Generation
from araio.engine.guide import SingleCallGuide
from araio.errors import RequestError, TextError
from araio.kernels import native
from araio.text.grammar import GrammarCompiler
from araio.text.tools import ToolChoice

pytestmark = pytest.mark.native

QUESTION = "What is 47 + 38 - 12?"
SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}, "is_even": {"type": "boolean"}},
    "required": ["sum", "is_even"],
    "additionalProperties": False,
}
JSON = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA, "strict": True}}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
SAMPLING = [{"temperature": 0}, {"temperature": 1.0, "seed": 4}]


@pytest.fixture(scope="module", params=["off", "on"])
def pocket(request: pytest.FixtureRequest) -> araio.Model:
    if not native.offer().operations:
        pytest.skip("the compiled kernels are not built")
    return araio.load("pocket", threads=1, speculate=request.param)


def run_in_company(model: araio.Model, generation: Generation, others: int) -> Generation:
    """Its tokens, taken, with so many other requests beside it."""
    jobs = [model.prepare_text(f"Number {n}", max_tokens=60, seed=n, temperature=1.0) for n in range(others)]
    for other in jobs:
        model.engine.enter(other.job)
    model.engine.enter(generation.job)
    while model.engine.step():
        pass
    return generation


def deltas_of(generation: Generation) -> list:
    tokens = list(generation.job.tokens)
    return [delta for token in tokens for delta in generation.take(token, 0.0).deltas]


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("budget", [None, 6])
def test_json_follows_the_schema_and_company_changes_nothing(pocket, sampling, budget) -> None:
    def ask() -> Generation:
        return pocket.prepare(
            QUESTION, response_format=JSON, thinking_budget=budget, max_tokens=300, **sampling
        )

    alone, among = (run_in_company(pocket, ask(), others) for others in (0, 15))
    assert [token.id for token in alone.job.tokens] == [token.id for token in among.job.tokens]
    deltas_of(alone)
    answer = alone.answer()
    assert answer.finish_reason == "stop"
    assert list(json.loads(answer.content)) == ["sum", "is_even"]
    free = pocket.chat(QUESTION, thinking_budget=budget, max_tokens=300, **sampling)
    assert answer.reasoning == free.reasoning
    assert answer.content != free.content


def test_any_object_is_json_too(pocket) -> None:
    answer = pocket.chat(QUESTION, response_format={"type": "json_object"}, max_tokens=200, temperature=0)
    assert answer.content.startswith("{")
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.content), dict)
    text = pocket.chat(QUESTION, response_format={"type": "text"}, temperature=0)
    assert text.content == pocket.chat(QUESTION, temperature=0).content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
@pytest.mark.parametrize("sampling", SAMPLING)
def test_a_tool_that_must_be_called_is_called(pocket, choice, sampling) -> None:
    generation = pocket.prepare(
        QUESTION,
        tools=[ADD],
        tool_choice=choice,
        parallel_tool_calls=False,
        thinking_budget=10,
        max_tokens=400,
        **sampling,
    )
    deltas = deltas_of(run_in_company(pocket, generation, 3))
    answer = generation.answer()
    (call,) = answer.tool_calls
    assert (call.name, list(json.loads(call.arguments))) == ("add", ["a", "b"])
    assert (answer.finish_reason, answer.content) == ("tool_calls", "")
    parts = [delta for delta in deltas if isinstance(delta, araio.ToolCallDelta)]
    assert (parts[0].index, parts[0].id, parts[0].name) == (0, call.id, "add")
    assert "".join(part.arguments for part in parts) == call.arguments
    assert all(part.arguments for part in parts[1:])


def test_a_tool_that_is_named_is_called_once_without_being_told_so(pocket) -> None:
    named = {"type": "function", "function": {"name": "add"}}
    asked = {"tools": [ADD], "thinking_budget": 0, "temperature": 0, "max_tokens": 400}
    answer = pocket.chat(QUESTION, tool_choice=named, **asked)
    assert (len(answer.tool_calls), answer.finish_reason) == (1, "tool_calls")


def test_a_call_that_may_come_ends_the_answer_if_there_may_be_one(pocket) -> None:
    forms = Forms(pocket.tokenizer, pocket.config.vocab_size, [pocket.tokenizer.eos_id])
    for parallel, expected in ((False, SingleCallGuide), (True, type(None))):
        options = ChatOptions(tools=[ADD], parallel_tool_calls=parallel)
        assert isinstance(forms.guide(options, *options.read_tools(), True), expected)
    # The thinking is as free as the answer: it may even end the text.
    asked = {"tools": [ADD], "parallel_tool_calls": False, "temperature": 0}
    assert pocket.chat(QUESTION, **asked).content == pocket.chat(QUESTION, tools=[ADD], temperature=0).content


def test_choices_have_one_prompt_and_each_its_own_draws(pocket) -> None:
    samplings = [{"seed": seed, "temperature": 1.0, "max_tokens": 30} for seed in (1, 2)]
    together = pocket.prepare_choices(QUESTION, samplings, thinking_budget=6, response_format=JSON)
    for generation, sampling in zip(together, samplings, strict=True):
        alone = pocket.prepare(QUESTION, thinking_budget=6, response_format=JSON, **sampling)
        ids = [token.id for token in run_in_company(pocket, generation, 1).job.tokens]
        assert ids == [token.id for token in run_in_company(pocket, alone, 0).job.tokens]


def test_thinking_that_is_continued_loses_no_line_break(pocket) -> None:
    opened = [{"role": "user", "content": QUESTION}, {"role": "assistant", "reasoning_content": "47 + 38 is"}]
    line = pocket.tokenizer.encode("\n")[0]
    asked = {"continue_final_message": True, "logit_bias": {line: 100}, "max_tokens": 3, "temperature": 0}
    assert pocket.chat(opened, **asked).reasoning == "\n\n\n"


def test_a_call_that_is_cut_off_ends_for_its_length(pocket) -> None:
    asked = {"tools": [ADD], "tool_choice": "required", "thinking_budget": 0, "temperature": 0}
    whole = pocket.prepare(QUESTION, **asked, max_tokens=400)
    ids = [token.id for token in run_in_company(pocket, whole, 0).job.tokens]
    cut = pocket.chat(QUESTION, **asked, max_tokens=len(ids) - 5)
    assert cut.finish_reason == "length"
    assert cut.tool_calls[-1].name == "add"


def test_without_tools_nothing_is_taken_for_a_call(pocket) -> None:
    answer = pocket.chat(QUESTION, tools=[ADD], tool_choice="none", temperature=0)
    assert answer.tool_calls == ()
    assert answer.content == pocket.chat(QUESTION, temperature=0).content


def test_an_answer_goes_on_where_a_message_ended(pocket) -> None:
    opened = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "The result"}]
    generation = pocket.prepare(opened, continue_final_message=True, max_tokens=5)
    assert not generation.is_reasoning
    assert pocket.tokenizer.decode(generation.job.prompt).endswith("The result")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"response_format": "json"}, "response_format is 'json'; expected an object"),
        ({"response_format": {"type": "xml"}}, "response_format is "),
        ({"response_format": {"type": "json_schema"}}, "json_schema.schema is None; expected a JSON schema"),
        ({"response_format": JSON, "tools": [ADD]}, "leave one of them out"),
    ],
)
def test_forms_that_are_none_are_refused(pocket, asked, message) -> None:
    with pytest.raises(RequestError, match=message):
        pocket.prepare(QUESTION, **asked)


def test_a_schema_that_cannot_be_held_is_refused_when_it_is_asked_for(pocket) -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "not": {}}}}
    with pytest.raises(TextError, match="JSON schema"):
        pocket.prepare(QUESTION, response_format=schema)
    with pytest.raises(TextError, match="tools"):
        pocket.prepare(QUESTION, tool_choice="required")


def test_an_answer_that_must_have_a_form_does_not_end_while_it_is_thought_about(pocket) -> None:
    ends = {"logit_bias": {pocket.tokenizer.eos_id: 100}, "max_tokens": 150, "temperature": 0}
    assert pocket.chat(QUESTION, **ends).usage["completion_tokens"] == 1
    answer = pocket.chat(QUESTION, **ends, response_format=JSON, thinking_budget=12)
    assert answer.reasoning
    assert list(json.loads(answer.content)) == ["sum", "is_even"]


def test_requests_that_come_at_once_share_one_compiler(pocket, monkeypatch) -> None:
    made: list[GrammarCompiler] = []
    init = GrammarCompiler.__init__

    def slow(self: GrammarCompiler, *arguments: object) -> None:
        made.append(self)
        time.sleep(0.05)
        init(self, *arguments)

    monkeypatch.setattr(GrammarCompiler, "__init__", slow)
    forms = Forms(pocket.tokenizer, pocket.config.vocab_size, [pocket.tokenizer.eos_id])
    asked = ChatOptions(response_format={"type": "json_object"})
    with ThreadPoolExecutor(4) as threads:
        guides = list(threads.map(lambda _: forms.guide(asked, [], ToolChoice("none"), True), range(4)))
    assert len(made) == 1
    assert len({id(guide) for guide in guides}) == 4
