import pytest
from pydantic import ValidationError

from araio.serve.errors import ApiError
from araio.serve.messages_ask import ask_of, conversation_of
from araio.serve.schema_messages import CountTokensRequest, MessagesRequest
from araio.serve.settings import Settings

QUESTION = [{"role": "user", "content": "2 + 2"}]
ADD = {"name": "add", "description": "adds", "input_schema": {"type": "object"}}
BASE = {"model": "pocket", "max_tokens": 64, "messages": QUESTION}


def ask(**fields):
    return ask_of(MessagesRequest.model_validate({**BASE, **fields}))


def text(words):
    return {"type": "text", "text": words}


def test_a_question_is_a_question():
    assert ask().messages == QUESTION
    assert ask().options == {"max_tokens": 64}


def test_the_system_prompt_stands_in_front():
    assert ask(system="Be brief.").messages[0] == {"role": "system", "content": "Be brief."}
    blocks = [text("Be brief."), {**text("Be kind."), "cache_control": {"type": "ephemeral"}}]
    assert ask(system=blocks).messages[0]["content"] == "Be brief.\n\nBe kind."


def test_blocks_of_an_answer_become_one_message_and_results_their_own():
    messages = [
        *QUESTION,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                text("I add."),
                {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": "ä"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("4")]},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "none", "is_error": True},
                text("Go on."),
            ],
        },
    ]
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": "ä"}'}}
    assert ask(messages=messages).messages == [
        *QUESTION,
        {"role": "assistant", "content": "I add.", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
        {"role": "tool", "tool_call_id": "call_2", "content": "Error: none"},
        {"role": "user", "content": "Go on."},
    ]


def test_turns_of_one_role_are_one_turn():
    messages = [*QUESTION, {"role": "user", "content": [text("Or 3?")]}]
    assert ask(messages=messages).messages == [{"role": "user", "content": "2 + 2\n\nOr 3?"}]


def test_a_last_answer_is_continued():
    messages = [*QUESTION, {"role": "assistant", "content": "It is"}]
    assert ask(messages=messages).options["continue_final_message"] is True


def test_sampling_is_passed_on():
    options = ask(temperature=0.5, top_p=0.9, top_k=3, seed=1, stop_sequences=["\n"]).options
    assert options == {
        "max_tokens": 64, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 1, "stop": ["\n"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("thinking", "budget"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, 1024),
        ({"type": "disabled"}, 0),
        ({"type": "adaptive"}, None),
        (None, None),
    ],
)
def test_thinking_is_a_budget_of_tokens(thinking, budget):
    assert ask(thinking=thinking).options.get("thinking_budget") == budget


def test_effort_is_one_too():
    assert ask(output_config={"effort": "low"}).options["thinking_budget"] == 1024


@pytest.mark.parametrize(
    ("choice", "mode"),
    [
        (None, None),
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "add"}, {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_tools_take_the_shape_of_a_chat(choice, mode):
    options = ask(tools=[ADD], tool_choice=choice).options
    function = {"name": "add", "description": "adds", "parameters": {"type": "object"}}
    assert options["tools"] == [{"type": "function", "function": function}]
    assert options.get("tool_choice") == mode


def test_a_format_takes_the_shape_of_a_chat():
    wanted = {"format": {"type": "json_schema", "schema": {"type": "integer"}}}
    response_format = ask(output_config=wanted).options["response_format"]
    assert response_format["json_schema"]["schema"] == {"type": "integer"}


def test_a_block_in_the_wrong_turn_is_named():
    messages = [*QUESTION, {"role": "user", "content": [{"type": "thinking", "thinking": "hm"}]}]
    with pytest.raises(ApiError, match=r"'thinking'.*'user'") as refused:
        ask(messages=messages)
    assert (refused.value.status_code, refused.value.param) == (400, "messages[1]")


def test_tokens_are_counted_of_the_same_conversation():
    asked = {"model": "pocket", "messages": QUESTION, "system": "Be brief.", "tools": [ADD]}
    conversation = conversation_of(CountTokensRequest.model_validate(asked))
    assert conversation.messages == ask(system="Be brief.").messages
    assert conversation.options["tools"] == ask(tools=[ADD]).options["tools"]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"max_tokens": None},
        {"max_tokens": 0},
        {"max_tokens": 1.0},
        {"temperature": 1.5},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "between_tools"}},
        {"tool_choice": "auto"},
        {"stop_sequences": [""]},
    ],
)
def test_what_cannot_be_meant_is_refused(fields):
    with pytest.raises(ValidationError):
        MessagesRequest.model_validate({**BASE, **fields})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": QUESTION * 3}, "messages"),
        ({"tools": [ADD, ADD]}, "tools"),
        ({"tools": [{"name": "x", "input_schema": {"a": "b" * 2000}}]}, "tools[0]"),
        ({"max_tokens": 1001}, "max_tokens"),
        ({"stop_sequences": ["a", "b"]}, "stop_sequences"),
        ({"stop_sequences": ["abcde"]}, "stop_sequences"),
        ({"container": "c"}, "container"),
    ],
)
def test_more_than_the_server_allows_is_refused(fields, param):
    settings = Settings(messages=2, tools=1, schema_bytes=1024, stop=1, stop_characters=4)
    request = MessagesRequest.model_validate({**BASE, **fields})
    with pytest.raises(ApiError) as refused:
        request.check(settings, 1000)
    assert (refused.value.status_code, refused.value.param) == (400, param)
