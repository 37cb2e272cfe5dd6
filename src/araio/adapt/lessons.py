"""`Lesson`: a conversation with the answer that shall be learned, as token ids in the model's own format.

Lessons come from where prompts come from (`eval/prompts.py`): JSONL with an "answer", and "reasoning" for a
model that thinks, or problems of the bundled families. Question and format are context, the rest is learned.
Some are kept apart to measure on: by the families' own rule for problems, by a hash of the question for
files. Refuses data without answers. Read `tune.py` for what learns from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from araio.errors import RequestError, TextError, TrainingError
from araio.eval.prompts import Prompt, read_prompts
from araio.text.chat import ChatFormat
from araio.text.deepseek import END_THINK, THINK
from araio.train.tasks import Split
from araio.train.tasks.base import is_held_out

__all__ = ["Lesson", "Lessons", "TunedSplit", "read_lessons"]

TunedSplit: TypeAlias = Literal["train", "beyond-train"]
"""Problems of the bundled families that may be tuned on; each has a split of the same kind that is kept."""

HELD_OUT: dict[TunedSplit, Split] = {"train": "test", "beyond-train": "beyond-test"}


@dataclass(frozen=True)
class Lesson:
    """Token ids of one conversation; those from `first_learned` on are learned."""

    ids: tuple[int, ...]
    first_learned: int


@dataclass(frozen=True)
class Lessons:
    """What is tuned on, and what was kept apart.

    held_out  as many as there are, never learned; empty if a file has too few
    too_long  lessons that were left out since they are longer than a row
    """

    learned: tuple[Lesson, ...]
    held_out: tuple[Lesson, ...]
    too_long: int

    @property
    def id(self) -> str:
        """The same for the same lessons in the same order."""
        digest = hashlib.sha256()
        for lesson in self.learned:
            digest.update(f"{lesson.first_learned}:{','.join(map(str, lesson.ids))}\n".encode())
        return digest.hexdigest()[:16]


def read_lessons(
    sources: Sequence[str],
    chat_format: ChatFormat,
    *,
    longest: int,
    n: int = 4096,
    n_held_out: int = 64,
    seed: int = 0,
    split: TunedSplit = "train",
) -> Lessons:
    """The lessons of all sources.

    sources  as `read_prompts` takes them; each line of a file needs an "answer", or messages that end with
             the assistant's
    longest  tokens that a lesson may have; longer ones are left out
    n, n_held_out, seed, split  problems of each source that is made without end; a file is read whole, and
             one in eight of its questions is kept apart

    Raises:
        RequestError: a source that cannot be read, a line without an answer, or reasoning for a model whose
            format has none.
        TextError: a conversation that the format cannot hold.
        TrainingError: no lesson is short enough.
    """
    learned: list[Lesson] = []
    held_out: list[Lesson] = []
    for source in sources:
        for prompt in read_prompts([source], n=n, seed=seed, split=split):
            of_file = prompt.example is None
            kept = of_file and is_held_out("file", str(prompt.messages[0].get("content")))
            (held_out if kept else learned).append(_lesson(prompt, chat_format))
        if source.startswith(("task:", "domain:")):
            kept_apart = read_prompts([source], n=n_held_out, seed=seed, split=HELD_OUT[split])
            held_out += [_lesson(prompt, chat_format) for prompt in kept_apart]
    fitting = tuple(lesson for lesson in learned if len(lesson.ids) <= longest)
    if not fitting:
        shortest = min((len(lesson.ids) for lesson in learned), default=0)
        raise TrainingError(
            f"none of {len(learned)} conversations fits into a row of {longest} tokens; the shortest has "
            f"{shortest}: raise --length"
        )
    kept_short = tuple(lesson for lesson in held_out if len(lesson.ids) <= longest)
    return Lessons(fitting, kept_short, len(learned) - len(fitting))


def _lesson(prompt: Prompt, chat_format: ChatFormat) -> Lesson:
    messages, answer, reasoning = list(prompt.messages), prompt.answer, prompt.reasoning
    if answer is None and messages[-1].get("role") == "assistant":
        last = messages.pop()
        answer, reasoning = str(last.get("content") or ""), reasoning or last.get("reasoning_content")
    if not answer or not messages:
        raise RequestError(
            f'{prompt.source}: a line has no answer to learn; give each an "answer", or messages that end '
            "with the assistant's"
        )
    asked = chat_format.render(messages)
    eos = chat_format.tokenizer.eos_id
    if eos is None:
        raise TextError("the model's tokenizer names no end of a text, so that no answer could end")
    if asked.starts_in_reasoning or reasoning:
        wanted = [*_thought(chat_format, reasoning or "", answer, opens=not asked.starts_in_reasoning)]
    else:
        wanted = [*_plain(chat_format, messages, asked.text, answer)]
    return Lesson((*asked.ids, *wanted, eos), len(asked.ids))


def _thought(chat_format: ChatFormat, reasoning: str, answer: str, *, opens: bool) -> Iterator[int]:
    """Ids of thinking and answer as DeepSeek-R1 writes them; `opens` where the prompt does not open it."""
    tokenizer = chat_format.tokenizer
    marks = tokenizer.token_id(THINK), tokenizer.token_id(END_THINK)
    if None in marks:
        raise RequestError(
            f"the data have reasoning, and the model's tokenizer has no {THINK}: it is no reasoning model; "
            'leave "reasoning" out'
        )
    begin, end = marks
    if opens:
        assert begin is not None
        yield begin
        yield from tokenizer.encode("\n")
    if reasoning:
        yield from tokenizer.encode(reasoning)
        yield from tokenizer.encode("\n")
    assert end is not None
    yield end
    yield from tokenizer.encode("\n\n")
    yield from tokenizer.encode(answer)


def _plain(chat_format: ChatFormat, messages: Sequence[object], asked: str, answer: str) -> Sequence[int]:
    """Ids of an answer of a model that does not think, with what its format writes in front of it."""
    said = [*messages, {"role": "assistant", "content": answer}]
    whole = chat_format.render(said, continue_final_message=True).text  # type: ignore[arg-type]
    return chat_format.tokenizer.encode(whole.removeprefix(asked) if whole.startswith(asked) else answer)
