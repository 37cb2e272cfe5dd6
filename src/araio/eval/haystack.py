"""Haystacks: texts of an exact number of tokens with needles at many depths, for one question each.

    list     the list of the `recall` task: every line looks like the needle
    stories  questions of the `story` task, which are not asked, and between them the needles: lines that look
             like nothing else in the text but a few more of them, which fill its end

A needle is a line of `recall` that no training has asked for, whatever the length. All questions of a
haystack come behind the same text, so an engine that keeps the beginnings of prompts reads it once. Read
`needle.py` for what is asked, `train/tasks/recall.py` for the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias, get_args

from araio.errors import RequestError
from araio.train.tasks import TASKS
from araio.train.tasks.recall import KEYS, QUESTIONS, Entry, draw_asked, draw_code

__all__ = ["HAYSTACKS", "Haystack", "HaystackKind", "Needle", "build_haystack"]

HaystackKind: TypeAlias = Literal["list", "stories"]
HAYSTACKS: tuple[HaystackKind, ...] = get_args(HaystackKind)

KEYS_LEFT = 400
"""Keys that are kept to end a haystack with: among them are lines of every length that there is."""

CLOSING_LINES = 8
"""At least so many of them end a haystack."""

ENOUGH_LINES = 16
"""Lines of one length that the end of a haystack may take."""

CountTokens: TypeAlias = Callable[[str], int]


@dataclass(frozen=True)
class Needle:
    """One line to find.

    depth  how much of the lines lies before it, 0 to 1, as asked for; it lies at the nearest place
    """

    depth: float
    entry: Entry


@dataclass(frozen=True)
class Haystack:
    """A text and the lines to find in it, by depth.

    tokens  of the text, without what the chat format puts around it
    """

    text: str
    tokens: int
    needles: tuple[Needle, ...]

    def prompt(self, needle: Needle) -> str:
        """The text and the question for one needle behind it."""
        return self.text + QUESTIONS[0].format(key=needle.entry.key)


def build_haystack(
    kind: HaystackKind, tokens: int, depths: list[float], per_depth: int, rng: Random, count: CountTokens
) -> Haystack:
    """A text of `tokens` tokens with `per_depth` needles near each depth.

    count  tokens of a text that begins and ends with a line; the sum over lines must be that of the text

    Its last lines are chosen so that they fill it exactly. Where a tokenizer leaves no such choice the text
    is shorter by less than a line, and `Haystack.tokens` says so.

    Raises:
        RequestError: the needles find no room, or there are not enough keys for a list so long.
    """
    wanted = [depth for depth in depths for _ in range(per_depth)]
    keys = list(KEYS["two-word keys"])
    asked = draw_asked(rng, "test", KEYS["two-word keys"], len(wanted))
    taken = {entry.key for entry in asked}
    free = [key for key in rng.sample(keys, len(keys)) if key not in taken]
    needles = [f"{entry}.\n" for entry in asked]
    room = tokens - sum(map(count, needles))
    if room < 0:
        raise RequestError(
            f"a haystack of {tokens} tokens has no room for {len(needles)} needles; ask for fewer depths or "
            "questions, or begin with a longer one"
        )
    spare = [f"{Entry(key, draw_code(rng))}.\n" for key in free[:KEYS_LEFT]]
    source = list_lines(free[KEYS_LEFT:], rng) if kind == "list" else story_lines(rng)
    hay = fill(source, spare, room, count)
    return weave(hay, needles, asked, wanted, count)


def list_lines(keys: list[str], rng: Random) -> Iterator[str]:
    for key in keys:
        yield f"{Entry(key, draw_code(rng))}.\n"
    raise RequestError(
        f"a list so long needs more than the {len(keys)} keys there are for this tokenizer; ask for shorter "
        "ones, or for a haystack of stories"
    )


def story_lines(rng: Random) -> Iterator[str]:
    while True:
        yield TASKS["story"].generate(rng, "test").prompt.replace("\n", " ") + "\n"


def fill(source: Iterator[str], spare: list[str], room: int, count: CountTokens) -> list[str]:
    """Lines of `room` tokens in all: those of the source, then a few of `spare` that fit exactly."""
    by_length: dict[int, list[str]] = {}
    for line in spare:
        by_length.setdefault(count(line), []).append(line)
    # Of rare lengths there are too few lines to count on.
    common = {size: lines for size, lines in by_length.items() if len(lines) >= ENOUGH_LINES}
    by_length = common or by_length
    longest = max(by_length)
    lines: list[str] = []
    while True:
        # Eight lines sum to nearly any number, where one or two leave gaps.
        line = next(source)
        taken = count(line)
        if room - taken < CLOSING_LINES * longest:
            break
        lines.append(line)
        room -= taken
    return lines + closing_lines(by_length, room)


def closing_lines(by_length: dict[int, list[str]], room: int) -> list[str]:
    """Lines whose lengths sum to `room`, or to as much of it as can be: the fewest that do."""
    reachable: dict[int, list[int]] = {0: []}
    for total in range(1, room + 1):
        ways = [[*reachable[total - size], size] for size in by_length if total - size in reachable]
        if ways:
            reachable[total] = min(ways, key=len)
    sizes = reachable[max(reachable)]
    return [by_length[size].pop() for size in sizes if by_length[size]]


def weave(
    hay: list[str], needles: list[str], asked: list[Entry], depths: list[float], count: CountTokens
) -> Haystack:
    """The needles at their depths among the hay, those of one depth on neighbouring places."""
    total = len(hay) + len(needles)
    places: list[int] = []
    for number, depth in enumerate(depths):
        wish = round(depth * (total - 1))
        # Needles still to come need a place each; those of one depth follow one another.
        latest = total - (len(depths) - number)
        earliest = places[-1] + 1 if places else 0
        places.append(min(max(wish, earliest), latest))
    at, rest = dict(zip(places, needles, strict=True)), iter(hay)
    lines = [at[place] if place in at else next(rest) for place in range(total)]
    found = tuple(Needle(depth, entry) for depth, entry in zip(depths, asked, strict=True))
    return Haystack("".join(lines), sum(map(count, lines)), found)
