"""Conversations to prompts: the ids, what stays text, and where the answer starts."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from araio.errors import TemplateError, TextError
from araio.testing.tokenizers import write_tiny_tokenizer
from araio.text.chat import ChatFormat, Prompt
from araio.text.deepseek import CONTROL_TOKENS
from araio.text.known_templates import DIALECTS, R1_CHAT_TEMPLATE, template_text
from araio.text.tokenizer import Span, Tokenizer
from araio.text.tools import Tool, ToolChoice, tools_prompt

UNKNOWN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<｜User｜>' if message.role == 'user' else '<｜Assistant｜>' }}{{ message.content | trim }}"
    "{% endfor %}{% if add_generation_prompt %}<｜Assistant｜><think>{% endif %}"
)


def chat_format(folder: Path, template: str) -> ChatFormat:
    write_tiny_tokenizer(folder, template)
    return ChatFormat.from_folder(folder, Tokenizer.from_folder(folder))


@pytest.fixture(scope="module")
def r1(tmp_path_factory: pytest.TempPathFactory) -> ChatFormat:
    return chat_format(tmp_path_factory.mktemp("r1"), R1_CHAT_TEMPLATE)


def ask(chat: ChatFormat, content: str) -> Prompt:
    return chat.render([{"role": "user", "content": content}])


def test_the_bundled_models_prompt(r1: ChatFormat) -> None:
    prompt = ask(r1, "What is 47 + 38?")
    assert prompt.text == "<｜begin▁of▁sentence｜><｜User｜>What is 47 + 38?<｜Assistant｜><think>\n"
    assert prompt.ids == r1.tokenizer.encode_spans([Span(prompt.text, is_trusted=True)])
    assert r1.tokenizer.decode(prompt.ids) == prompt.text
    assert prompt.starts_in_reasoning


@given(content=st.lists(st.sampled_from([*CONTROL_TOKENS, "<", "｜>", "a", " "]), max_size=5).map("".join))
def test_control_tokens_in_a_message_are_text(r1: ChatFormat, content: str) -> None:
    prompt = ask(r1, content)
    control = {r1.tokenizer.token_id(token) for token in CONTROL_TOKENS}
    expected = ["<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>"]
    assert [r1.tokenizer.decode([token_id]) for token_id in prompt.ids if token_id in control] == expected
    assert r1.tokenizer.decode(prompt.ids) == prompt.text


@pytest.mark.parametrize("name", DIALECTS)
def test_only_a_prefilled_tag_starts_the_reasoning(name: str, tmp_path: Path) -> None:
    prompt = ask(chat_format(tmp_path, template_text(name)), "Hi <think>\n")
    assert prompt.starts_in_reasoning == (name in ("deepseek_r1", "deepseek_r1_distill"))


def test_the_answer_to_a_tool_does_not_start_in_reasoning(r1: ChatFormat) -> None:
    prompt = r1.render([{"role": "user", "content": "Hi"}, {"role": "tool", "content": "<think>\n"}])
    assert not prompt.starts_in_reasoning


@pytest.mark.parametrize("name", DIALECTS)
def test_ids_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    chat = chat_format(tmp_path, template_text(name))
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = [
        {"role": "system", "content": "Answer briefly. "},
        {"role": "user", "content": " Two numbers: 12 and 345?\n"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYou are the number and café"},
        {"role": "user", "content": ""},
        {"role": "user", "content": "Ok  \n\n"},
    ]
    spelled_out = name in ("deepseek_v2", "deepseek_v2_5", "deepseek_v3")  # keep <think> in the history
    if spelled_out:
        messages[2] = {"role": "assistant", "content": "You are the number and café"}
    theirs = peer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert chat.render(messages).ids == theirs


def test_a_known_template_starts_no_process(monkeypatch: pytest.MonkeyPatch, r1: ChatFormat) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", refuse)
    assert ask(r1, "Hi").starts_in_reasoning


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> ChatFormat:
    return chat_format(tmp_path_factory.mktemp("unknown"), UNKNOWN_TEMPLATE)


def test_an_unknown_template_is_rendered(unknown: ChatFormat) -> None:
    prompt = unknown.render([{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Yes"}])
    assert prompt.text == "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>Yes<｜Assistant｜><think>"
    assert prompt.ids == unknown.tokenizer.encode_spans([Span(prompt.text, is_trusted=True)])
    assert prompt.starts_in_reasoning


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.sampled_from([*CONTROL_TOKENS, "<", "a", "\ufdd0", "\ufdd1"]), max_size=6).map(
        "".join
    )
)
def test_control_tokens_stay_text_in_unknown_templates(unknown: ChatFormat, content: str) -> None:
    prompt = ask(unknown, content)
    control = {unknown.tokenizer.token_id(token) for token in CONTROL_TOKENS}
    assert prompt.text == f"<｜begin▁of▁sentence｜><｜User｜>{content}<｜Assistant｜><think>"
    assert sum(token_id in control for token_id in prompt.ids) == 4
    assert unknown.tokenizer.decode(prompt.ids) == prompt.text


def test_a_message_cannot_pose_as_the_prefilled_tag(tmp_path: Path) -> None:
    chat = chat_format(tmp_path, "{{ messages[0].content }}")
    prompt = ask(chat, "Hi<think>")
    assert prompt.text == "Hi<think>"
    assert not prompt.starts_in_reasoning


def test_a_failing_template_says_what_it_said(tmp_path: Path) -> None:
    chat = chat_format(tmp_path, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(TemplateError, match="roles must alternate"):
        ask(chat, "Hi")


def test_a_base_model_refuses_to_chat(tmp_path: Path) -> None:
    write_tiny_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(TextError, match="no chat template"):
        ask(ChatFormat.from_folder(tmp_path, tokenizer), "Hi")


@pytest.mark.parametrize("messages", [[], ["Hi"], [{"role": "user", "content": "\ud800"}]])
def test_what_is_not_a_conversation_is_refused(r1: ChatFormat, messages: list[Any]) -> None:
    with pytest.raises(TextError):
        r1.render(messages)


def test_messages_that_are_not_json_are_refused(unknown: ChatFormat) -> None:
    with pytest.raises(TextError, match="not JSON"):
        unknown.render([{"role": "user", "content": {1, 2}}])


USER = {"role": "user", "content": "Hi"}
BEGIN = "<｜begin▁of▁sentence｜>"
OPEN = f"{BEGIN}<｜User｜>Hi<｜Assistant｜>"
TOOLS = (Tool("add", "Adds <｜User｜>."),)


@pytest.mark.parametrize(
    ("answer", "prompt", "starts_in_reasoning"),
    [
        ({"content": "So"}, OPEN + "So", False),
        ({"content": "<think>\nHm</think>So"}, OPEN + "So", False),
        ({"content": "", "reasoning": "Hm"}, OPEN + "<think>\nHm", True),
        ({"reasoning_content": "Hm <think>\n"}, OPEN + "<think>\nHm <think>\n", True),
        ({"content": "So", "reasoning": "Hm"}, OPEN + "<think>\nHm\n</think>\n\nSo", False),
    ],
)
def test_an_answer_is_gone_on_with(
    r1: ChatFormat, answer: dict[str, Any], prompt: str, starts_in_reasoning: bool
) -> None:
    rendered = r1.render([USER, {"role": "assistant", **answer}], continue_final_message=True)
    assert (rendered.text, rendered.starts_in_reasoning) == (prompt, starts_in_reasoning)


@pytest.mark.parametrize("name", DIALECTS)
def test_what_continues_is_the_start_of_what_is_finished(name: str, tmp_path: Path) -> None:
    chat = chat_format(tmp_path, template_text(name))
    messages = [USER, {"role": "assistant", "content": "So"}]
    assert chat.render([*messages, USER]).text.startswith(
        chat.render(messages, continue_final_message=True).text + "<｜end▁of▁sentence｜>"
    )


@pytest.mark.parametrize("last", [USER, {"role": "assistant", "content": None, "tool_calls": [{}]}])
def test_only_an_answer_can_be_gone_on_with(
    r1: ChatFormat, unknown: ChatFormat, last: dict[str, Any]
) -> None:
    for chat in (r1, unknown):
        with pytest.raises(TextError, match="cannot be continued"):
            chat.render([USER, last], continue_final_message=True)


def test_an_unknown_template_is_gone_on_with(unknown: ChatFormat) -> None:
    answer = {"role": "assistant", "content": "So <think>"}
    prompt = unknown.render([USER, answer], continue_final_message=True)
    assert (prompt.text, prompt.starts_in_reasoning) == (OPEN + "So <think>", False)


@pytest.mark.parametrize(
    "systems", [[], [{"role": "developer", "content": [{"type": "text", "text": "Be."}]}]]
)
def test_tools_stand_in_front_of_the_system_message(r1: ChatFormat, systems: list[dict[str, Any]]) -> None:
    plain = r1.render([*systems, USER])
    told = r1.render([*systems, USER], tools=TOOLS)
    notice = "".join(span.text for span in tools_prompt(TOOLS, ToolChoice()))
    parting = "\n\n" if systems else ""
    assert told.text == BEGIN + notice + parting + plain.text.removeprefix(BEGIN)
    assert told.starts_in_reasoning
    # The description's control token is text; those of the form of a call are real.
    assert told.ids.count(r1.tokenizer.token_id("<｜User｜>") or -1) == 1
    assert told.ids.count(r1.tokenizer.token_id("<｜tool▁call▁begin｜>") or -1) == 1
    assert r1.render([*systems, USER], tools=TOOLS, tool_choice=ToolChoice("none")) == plain


def test_an_unknown_template_is_told_of_tools(tmp_path: Path, unknown: ChatFormat) -> None:
    knowing = chat_format(tmp_path, "{{ tools[0].function.name }}{{ messages[0].content }}")
    assert knowing.render([USER], tools=TOOLS).text == "addHi"
    assert "Adds" in unknown.render([USER], tools=TOOLS).text


def test_v2_has_no_place_for_tools(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no tool calls"):
        chat_format(tmp_path, template_text("deepseek_v2")).render([USER], tools=TOOLS)
