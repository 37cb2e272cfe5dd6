"""`read_prompts`: what a model shall be asked, from files or from the bundled task families.

    math.jsonl          an object a line: "prompt" or "messages", and "answer", "reasoning" and "domain" if
                        they are known; "refuse": true where a model is expected to decline
    questions.txt       plain text, a question a line
    task:chain,order    problems of bundled families, made without end, with verifiers
    domain:logic        problems of every family of a domain

Who measures what experts do, fits a profile or tunes reads prompts here. Problems of the split "train" and of
"test" are never the same, and those of "test" are what `araio eval` asks. Refuses lines that hold no prompt,
by file and number. Read `train/tasks/base.py` for the families.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any, get_args

from araio.api.recording import check_domain
from araio.errors import RequestError, TextError
from araio.eval.accuracy import task_names
from araio.json_reader import parse_object, shown
from araio.text.messages import plain_messages
from araio.train.tasks import TASKS, Domain, Example, Split
from araio.train.tasks.answers import same_text

__all__ = ["BUNDLED_DOMAINS", "Prompt", "read_prompts"]

BUNDLED_DOMAINS: tuple[str, ...] = get_args(Domain)
"""Domains of the bundled families."""

OBJECT_SUFFIXES = (".jsonl", ".ndjson", ".json")
MOST_FILE_BYTES = 256 << 20


@dataclass(frozen=True)
class Prompt:
    """Something to ask.

    messages  a conversation whose next answer is wanted, as `Model.chat` takes it
    domain    what it belongs to; None where nobody has said
    source    where it comes from: "task:chain", or the file's name
    answer    the right one, if it is known
    reasoning  a way to it, if one is known
    example   the problem of a bundled family that it is; None for one from a file
    refuse    whether a model is expected to decline
    """

    messages: tuple[Mapping[str, Any], ...]
    domain: str | None
    source: str
    answer: str | None = None
    example: Example | None = None
    reasoning: str | None = None
    refuse: bool = False

    def is_right(self, answer: str) -> bool | None:
        """Whether an answer's content is right; None where nobody knows.

        A family's verifier decides where there is one. Else the texts must be the same, but for letter case,
        spaces and a full stop at the end.
        """
        if self.example is not None:
            return TASKS[self.example.task].verify(self.example, answer)
        return None if self.answer is None else same_text(answer, self.answer)


def read_prompts(
    sources: Sequence[str], *, n: int = 32, seed: int = 0, split: Split = "train"
) -> list[Prompt]:
    """The prompts of all sources, one source behind the other.

    sources  files, `task:NAMES` and `domain:NAME`
    n        problems from each source that is made without end, dealt out among its families in turn;
             a file is read whole
    seed, split  which problems: the same ones for the same seed, and more of them for a larger n

    Raises:
        RequestError: a family or a domain that there is not, a file that cannot be read or that holds no
            prompt, a number below 1.
    """
    if n < 1:
        raise RequestError(f"n is {n}; expected 1 or more prompts of each source")
    if split not in get_args(Split):
        raise RequestError(f"split {split!r} is unknown; expected one of {', '.join(get_args(Split))}")
    if not sources:
        raise RequestError(
            f"no prompts given; name a file, task:{next(iter(TASKS))} or domain:{BUNDLED_DOMAINS[0]}"
        )
    prompts: list[Prompt] = []
    for source in sources:
        families = _families(source)
        prompts += _of_file(Path(source)) if families is None else _made(families, n, seed, split)
    return prompts


def _families(source: str) -> list[str] | None:
    """The families that a source names; None for a file."""
    kind, _, name = source.partition(":")
    if kind == "task":
        return task_names([entry.strip() for entry in name.split(",")])
    if kind != "domain":
        return None
    if name not in BUNDLED_DOMAINS:
        raise RequestError(f"no domain {name!r} is bundled; expected one of {', '.join(BUNDLED_DOMAINS)}")
    return [task.name for task in TASKS.values() if task.domain == name]


def _made(families: Sequence[str], n: int, seed: int, split: Split) -> Iterator[Prompt]:
    for place, name in enumerate(islice(cycle(families), n)):
        # As `evaluate` draws them: its questions are those of the split "test".
        rng = Random(f"{seed}/{split}/{name}/{place // len(families)}")
        example = TASKS[name].generate(rng, split)
        messages = ({"role": "user", "content": example.prompt},)
        yield Prompt(messages, TASKS[name].domain, f"task:{name}", example.answer, example, example.reasoning)


def _of_file(path: Path) -> list[Prompt]:
    read = _object_prompt if path.suffix.lower() in OBJECT_SUFFIXES else _line_prompt
    prompts = []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            prompts.append(read(line, path.name))
        except (ValueError, RequestError, TextError) as error:
            raise RequestError(f"{path}, line {number}: {error}") from None
    if not prompts:
        raise RequestError(f"{path} holds no prompt; expected one a line")
    return prompts


def _lines(path: Path) -> Iterable[str]:
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise RequestError(f"{path} is larger than {MOST_FILE_BYTES >> 20} MiB; cut it into files")
        # Not splitlines: a prompt may hold characters that only Python takes for the end of a line.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise RequestError(
            f"{path} cannot be read: {error.strerror}; prompts come from a file, task:NAMES or domain:NAME"
        ) from None


def _line_prompt(line: str, source: str) -> Prompt:
    return Prompt(({"role": "user", "content": line.strip()},), None, source)


def _object_prompt(line: str, source: str) -> Prompt:
    entry = parse_object(line.encode())
    texts = {key: entry.get(key) for key in ("prompt", "answer", "reasoning", "domain")}
    for key, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise RequestError(f'"{key}" is {shown(value)}; expected a text')
    domain, refuse = texts["domain"], entry.get("refuse", False)
    if domain is not None:
        check_domain(domain)
    if not isinstance(refuse, bool):
        raise RequestError(f'"refuse" is {shown(refuse)}; expected true or false')
    messages = _messages(texts["prompt"], entry.get("messages"))
    return Prompt(messages, domain, source, texts["answer"], None, texts["reasoning"], refuse)


def _messages(prompt: str | None, messages: Any) -> tuple[Mapping[str, Any], ...]:
    if (prompt is None) == (messages is None):
        raise RequestError('expected either "prompt" or "messages"')
    if prompt is not None:
        if not prompt.strip():
            raise RequestError('"prompt" is empty')
        return ({"role": "user", "content": prompt},)
    if not isinstance(messages, list):
        raise RequestError(f'"messages" is {shown(messages)}; expected a list of objects')
    return tuple(plain_messages(messages))
