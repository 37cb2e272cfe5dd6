"""Prompts from every kind of source, and what is refused of each."""

import json

import pytest

from araio.errors import RequestError
from araio.eval.prompts import BUNDLED_DOMAINS, read_prompts
from araio.train.tasks import TASKS


def write_lines(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return str(path)


def test_a_family_gives_problems_that_its_verifier_knows():
    prompts = read_prompts(["task:chain,order"], n=5)
    assert [prompt.source for prompt in prompts] == ["task:chain", "task:order"] * 2 + ["task:chain"]
    assert [prompt.domain for prompt in prompts[:2]] == ["mathematics", "logic"]
    assert all(prompt.is_right(prompt.answer) for prompt in prompts)
    assert not any(prompt.is_right("I do not know") for prompt in prompts)


def test_a_larger_number_begins_with_the_same_problems_and_another_seed_has_others():
    few, many = (read_prompts(["domain:logic"], n=n) for n in (4, 12))
    assert many[:4] == few
    assert read_prompts(["domain:logic"], n=4, seed=1) != few
    assert {prompt.domain for prompt in many} == {"logic"}
    assert {prompt.source for prompt in many} == {
        f"task:{t.name}" for t in TASKS.values() if t.domain == "logic"
    }


def test_the_splits_share_no_problem():
    train, test = (read_prompts(["task:chain"], n=50, split=split) for split in ("train", "test"))
    assert not {str(prompt.messages) for prompt in train} & {str(prompt.messages) for prompt in test}


def test_a_domain_exists_for_every_family():
    assert {task.domain for task in TASKS.values()} == set(BUNDLED_DOMAINS)


def test_objects_of_a_file_keep_their_answers_and_domains(tmp_path):
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And now?"}]
    path = write_lines(
        tmp_path / "mine.jsonl",
        {"prompt": "1 + 1?", "answer": "Two", "domain": "sums", "id": 7},
        {"messages": conversation},
    )
    first, second = read_prompts([path])
    assert first.messages == ({"role": "user", "content": "1 + 1?"},)
    assert (first.domain, first.source) == ("sums", "mine.jsonl")
    assert (first.is_right(" two."), first.is_right("three")) == (True, False)
    assert second.messages == tuple(conversation)
    assert second.domain is second.answer is second.is_right("anything") is None


def test_plain_text_is_a_question_a_line(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_bytes("\ufeffWhy?\r\n\n  How\u2028so?  \n".encode())
    asked = [prompt.messages[0]["content"] for prompt in read_prompts([str(path)])]
    assert asked == ["Why?", "How\u2028so?"]


def test_sources_follow_each_other_and_files_are_read_whole(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text("a\nb\nc\n")
    sources = [prompt.source for prompt in read_prompts([str(path), "task:chain"], n=2)]
    assert sources == ["questions.txt"] * 3 + ["task:chain"] * 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "Why?"}', 'either "prompt" or "messages"'),
        ('{"prompt": "Why?", "messages": []}', 'either "prompt" or "messages"'),
        ('{"prompt": " "}', "is empty"),
        ('{"prompt": 3}', '"prompt" is 3'),
        ('{"prompt": "Why?", "answer": 3}', '"answer" is 3'),
        ('{"prompt": "Why?", "domain": ""}', "the domain is ''"),
        ('{"messages": []}', "the conversation is empty"),
        ('{"messages": "Why?"}', "expected a list"),
        ('{"messages": ["Why?"]}', "expected an object with role"),
        ("[1]", "not a JSON object"),
        ('{"prompt": ', "not valid JSON"),
    ],
)
def test_a_line_without_a_prompt_is_refused_by_its_number(tmp_path, line, message):
    path = tmp_path / "mine.jsonl"
    path.write_text(f'{{"prompt": "Why?"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(RequestError, match="line 3") as caught:
        read_prompts([str(path)])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("task:chian", "did you mean chain"),
        ("task:", "no task ''"),
        ("domain:maths", "expected one of mathematics, logic, language"),
        ("nowhere.jsonl", "No such file.*task:NAMES or domain:NAME"),
    ],
)
def test_a_source_that_there_is_not_is_refused(source, message):
    with pytest.raises(RequestError, match=message):
        read_prompts([source])


def test_files_without_prompts_and_numbers_below_one_are_refused(tmp_path):
    path = tmp_path / "empty.txt"
    path.write_text("\n \n")
    with pytest.raises(RequestError, match="holds no prompt"):
        read_prompts([str(path)])
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="not UTF-8"):
        read_prompts([str(path)])
    with pytest.raises(RequestError, match="n is 0"):
        read_prompts(["task:chain"], n=0)
    with pytest.raises(RequestError, match="split 'tset'"):
        read_prompts(["task:chain"], split="tset")
    with pytest.raises(RequestError, match="no prompts given"):
        read_prompts([])


def test_a_file_may_say_where_a_model_should_decline(tmp_path):
    path = tmp_path / "asked.jsonl"
    path.write_text('{"prompt": "a", "refuse": true}\n{"prompt": "b"}\n', encoding="utf-8")
    assert [prompt.refuse for prompt in read_prompts([str(path)])] == [True, False]
    path.write_text('{"prompt": "a", "refuse": "yes"}\n', encoding="utf-8")
    with pytest.raises(RequestError, match=r"line 1: \"refuse\" is 'yes'; expected true or false"):
        read_prompts([str(path)])
