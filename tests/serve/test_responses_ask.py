import pytest
from pydantic import ValidationError

from araio.serve.errors import ApiError
from araio.serve.responses_ask import ask_of
from araio.serve.schema_responses import ResponsesRequest
from araio.serve.settings import Settings

ADD = {
    "type": "function",
    "name": "add",
    "description": "adds",
    "parameters": {"type": "object"},
    "strict": True,
}
SUB = {"type": "function", "name": "sub", "parameters": None, "strict": None}


def ask(**fields):
    return ask_of(ResponsesRequest.model_validate({"input": "2 + 2", **fields}))


def test_a_string_is_a_question():
    assert ask().messages == [{"role": "user", "content": "2 + 2"}]
    assert ask().options == {}


def test_instructions_stand_in_front():
    assert ask(instructions="Be brief.").messages[0] == {"role": "system", "content": "Be brief."}


def test_items_of_one_answer_become_one_message():
    items = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "2 + "}, {"type": "input_text", "text": "2"}],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "I add.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a":2}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "4"},
        {"role": "developer", "content": "Be sure."},
    ]
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":2}'}}
    assert ask(input=items).messages == [
        {"role": "user", "content": "2 + 2"},
        {"role": "assistant", "content": "I add.", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
        {"role": "developer", "content": "Be sure."},
    ]


def test_a_second_answer_is_a_second_message():
    items = [{"role": "assistant", "content": "one"}, {"role": "assistant", "content": "two"}]
    assert [message["content"] for message in ask(input=items).messages] == ["one", "two"]


def test_calls_without_text_have_no_content():
    items = [{"type": "function_call", "call_id": "1", "name": "add", "arguments": "{}"}]
    assert ask(input=items).messages[0]["content"] is None


def test_refusals_and_summaries_read_as_text():
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "in short"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ]
    assert ask(input=items).messages == [
        {"role": "assistant", "content": "no", "reasoning_content": "in short"},
    ]


def test_sampling_is_passed_on_and_what_is_open_stays_open():
    options = ask(max_output_tokens=9, temperature=0, top_p=0.5, seed=3, user="me").options
    assert options == {"max_tokens": 9, "temperature": 0, "top_p": 0.5, "seed": 3}


@pytest.mark.parametrize(("effort", "budget"), [("none", 0), ("low", 1024), ("high", None), ("max", None)])
def test_effort_is_a_budget_of_tokens(effort, budget):
    assert ask(reasoning={"effort": effort}).options.get("thinking_budget") == budget


def test_a_budget_in_tokens_goes_before_effort():
    assert ask(reasoning={"effort": "none"}, thinking_token_budget=7).options == {"thinking_budget": 7}


def test_logprobs_are_asked_for_by_include():
    assert ask(include=["message.output_text.logprobs"], top_logprobs=2).options == {"logprobs": 2}
    assert ask(top_logprobs=2).options == {}


def test_tools_take_the_shape_of_a_chat():
    options = ask(tools=[ADD, SUB], tool_choice="required").options
    function = {"name": "add", "description": "adds", "parameters": {"type": "object"}}
    assert options["tools"] == [
        {"type": "function", "function": function},
        {"type": "function", "function": {"name": "sub"}},
    ]
    assert options["tool_choice"] == "required"


def test_one_function_may_be_chosen():
    options = ask(tools=[ADD], tool_choice={"type": "function", "name": "add"}).options
    assert options["tool_choice"] == {"type": "function", "function": {"name": "add"}}


def test_allowed_tools_are_the_only_ones():
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "sub"}]}
    options = ask(tools=[ADD, SUB], tool_choice=allowed).options
    assert [tool["function"]["name"] for tool in options["tools"]] == ["sub"]
    assert options["tool_choice"] == "required"


def test_an_allowed_tool_that_is_not_there_is_named():
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "mul"}]}
    with pytest.raises(ApiError, match=r"'mul'.*add") as refused:
        ask(tools=[ADD], tool_choice=allowed)
    assert (refused.value.status_code, refused.value.param) == (400, "tool_choice")


def test_formats_take_the_shape_of_a_chat():
    wanted = {"type": "json_schema", "name": "sum", "schema": {"type": "integer"}, "strict": True}
    assert ask(text={"format": wanted}).options == {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "sum", "schema": {"type": "integer"}},
        }
    }
    assert ask(text={"format": {"type": "json_object"}}).options == {
        "response_format": {"type": "json_object"}
    }
    assert ask(text={"format": {"type": "text"}}).options == {}


@pytest.mark.parametrize("field", ["store", "previous_response_id", "conversation", "prompt", "background"])
def test_what_would_have_to_be_kept_is_refused_by_name(field):
    request = ResponsesRequest.model_validate({"input": "2 + 2", field: True})
    with pytest.raises(ApiError) as refused:
        request.check(Settings(), 1000)
    assert (refused.value.status_code, refused.value.param) == (400, field)


def test_keeping_nothing_may_be_said():
    ResponsesRequest.model_validate({"input": "x", "store": False, "background": False}).check(
        Settings(), 1000
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"input": []},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]}]},
        {"tools": [{"type": "web_search"}]},
        {"temperature": 2.5},
        {"temperature": "1"},
        {"max_output_tokens": 0},
        {"max_output_tokens": True},
        {"truncation": "auto"},
        {"text": {"verbosity": "low"}},
        {"tool_choice": "any"},
        {"reasoning": {"effort": "huge"}},
        {"seed": 2**64},
    ],
)
def test_what_cannot_be_meant_is_refused(fields):
    with pytest.raises(ValidationError):
        ResponsesRequest.model_validate({"input": "2 + 2", **fields})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"role": "user", "content": "x"}] * 3}, "input"),
        ({"tools": [ADD, SUB]}, "tools"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"a": "b" * 2000}}}},
            "text.format",
        ),
        ({"max_output_tokens": 1001}, "max_output_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
    ],
)
def test_more_than_the_server_allows_is_refused(fields, param):
    settings = Settings(messages=2, tools=1, schema_bytes=1024, top_logprobs=2)
    request = ResponsesRequest.model_validate({"input": "2 + 2", **fields})
    with pytest.raises(ApiError) as refused:
        request.check(settings, 1000)
    assert (refused.value.status_code, refused.value.param) == (400, param)
