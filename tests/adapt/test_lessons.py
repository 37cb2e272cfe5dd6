"""Conversations to learn from: the ids that the model's format gives them, and what is kept apart."""

import json

import pytest

from araio.adapt.lessons import read_lessons
from araio.errors import RequestError, TrainingError
from araio.eval.prompts import read_prompts
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.testing.tokenizers import write_tiny_tokenizer
from araio.text.chat import ChatFormat
from araio.text.known_templates import template_text
from araio.text.tokenizer import Tokenizer
from araio.train.data import Encoder


def write_lines(path, *entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return str(path)


@pytest.fixture
def chat_format(pocket):
    return pocket.chat_format


def decoded(chat_format, lesson):
    """What is given, and what is learned."""
    cut, decode = lesson.first_learned, chat_format.tokenizer.decode
    return decode(list(lesson.ids[:cut])), decode(list(lesson.ids[cut:]))


def test_a_problem_is_what_pocket_was_trained_on(chat_format):
    lessons = read_lessons(["task:chain,letters"], chat_format, longest=400, n=6)
    examples = [prompt.example for prompt in read_prompts(["task:chain,letters"], n=6)]
    encoder = Encoder(chat_format.tokenizer)
    for lesson, example in zip(lessons.learned, examples, strict=True):
        document = encoder.conversation(example)
        assert list(lesson.ids) == document.ids
        assert lesson.first_learned == document.first_learned


@pytest.mark.parametrize("split", ["train", "beyond-train"])
def test_problems_that_are_kept_apart_are_never_learned(chat_format, split):
    lessons = read_lessons(
        ["task:letters"], chat_format, longest=400, n=400, n_held_out=100, split=split, seed=2
    )
    asked = [
        {lesson.ids[: lesson.first_learned] for lesson in part}
        for part in (lessons.learned, lessons.held_out)
    ]
    assert len(lessons.held_out) == 100
    assert not asked[0] & asked[1]


def test_lines_of_a_file_with_and_without_thinking(chat_format, tmp_path):
    path = write_lines(
        tmp_path / "data.jsonl",
        {"prompt": "What is 1 + 1?", "reasoning": "1+1=2", "answer": "2"},
        {"prompt": "Name a colour.", "answer": "red"},
        {
            "messages": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Good day.", "reasoning_content": "Be polite."},
            ]
        },
    )
    lessons = read_lessons([path], chat_format, longest=400)
    both = lessons.learned + lessons.held_out
    texts = {decoded(chat_format, lesson)[1] for lesson in both}
    end = "<｜end▁of▁sentence｜>"
    assert texts == {
        f"1+1=2\n</think>\n\n2{end}",
        f"</think>\n\nred{end}",
        f"Be polite.\n</think>\n\nGood day.{end}",
    }
    assert all(decoded(chat_format, lesson)[0].endswith("<｜Assistant｜><think>\n") for lesson in both)


def test_one_question_in_eight_of_a_file_is_kept_apart_whatever_the_order(chat_format, tmp_path):
    entries = [{"prompt": f"What comes after {i}?", "answer": str(i + 1)} for i in range(200)]
    kept = []
    for name, order in (("a", entries), ("b", entries[::-1])):
        lessons = read_lessons([write_lines(tmp_path / f"{name}.jsonl", *order)], chat_format, longest=99)
        assert len(lessons.learned) + len(lessons.held_out) == 200
        kept.append(set(lessons.held_out))
    assert kept[0] == kept[1]
    assert 10 < len(kept[0]) < 45


@pytest.fixture
def v2_format(tmp_path):
    """Of a model that does not think, whose format has neither tags nor turns in tokens."""
    folder = tmp_path / "v2"
    write_tiny_checkpoint(folder, "v2-lite")
    write_tiny_tokenizer(folder, template_text("deepseek_v2"))
    return ChatFormat.from_folder(folder, Tokenizer.from_folder(folder))


def test_a_model_that_does_not_think_learns_the_answer_alone(v2_format, tmp_path):
    path = write_lines(tmp_path / "data.jsonl", {"prompt": "Name a colour.", "answer": "red"})
    lessons = read_lessons([path], v2_format, longest=400)
    (lesson,) = lessons.learned + lessons.held_out
    asked, learned = decoded(v2_format, lesson)
    assert asked.endswith("User: Name a colour.\n\nAssistant:")
    assert learned == " red<｜end▁of▁sentence｜>"


def test_long_conversations_are_left_out_and_counted(chat_format):
    lengths = [len(one.ids) for one in read_lessons(["task:chain"], chat_format, longest=9999, n=40).learned]
    middle = sorted(lengths)[20]
    lessons = read_lessons(["task:chain"], chat_format, longest=middle, n=40)
    assert lessons.too_long == sum(length > middle for length in lengths) > 0
    assert max(len(one.ids) for one in lessons.learned + lessons.held_out) <= middle
    with pytest.raises(
        TrainingError, match=r"none of 40 conversations fits into a row of 8 tokens; the shor"
    ):
        read_lessons(["task:chain"], chat_format, longest=8, n=40)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"prompt": "Why?"}, "a line has no answer to learn"),
        ({"messages": [{"role": "assistant", "content": "Yes."}]}, "a line has no answer to learn"),
        ({"prompt": "Why?", "answer": ["no"]}, '"answer" is .*expected a text'),
        ({"prompt": "Why?", "answer": "So.", "reasoning": 3}, '"reasoning" is 3; expected a text'),
    ],
)
def test_a_line_without_an_answer_is_refused(chat_format, tmp_path, entry, message):
    with pytest.raises(RequestError, match=message):
        read_lessons([write_lines(tmp_path / "data.jsonl", entry)], chat_format, longest=99)
